#!/usr/bin/env bash
# bench/gpu on the emulated GPU, in tiny sizes: every section runs, rows are well formed, the file is written.
# timeout=480 asan=no
set -u
build=${WEFT_BUILD:-$PWD/build/release}
folder=$(mktemp -d "${TMPDIR:-/tmp}/gpu-bench.XXXXXX") || exit 1
trap 'rm -rf "$folder"' EXIT
number=0 failed=0
check() { # name, condition's exit status
  number=$((number + 1))
  if [ "$2" -eq 0 ]; then echo "ok $number - $1"; else
    echo "not ok $number - $1"
    tail -n 20 "$folder/said" | sed 's/^/# /'
    failed=1
  fi
}
if [ ! -x "$build/emulated/bench/gpu_bench" ]; then
  echo "ok 1 - bench/gpu # SKIP no $build/emulated/bench/gpu_bench"
  exit 0
fi
bench() { bench/gpu --build "$build" "$@" >"$folder/said" 2>&1; }

bench --quick --emulated --output "$folder/results.md" copy products layers ops swin step
check "all sections: exit 0" $?
for section in copy products layers ops swin step; do
  grep -q "^### $section\$" "$folder/results.md"
  check "$section has a table" $?
done
awk -F '|' '/^\|/ && NF != 10 { wrong = 1 } END { exit wrong }' "$folder/results.md"
check "rows have eight columns" $?
! grep -qE '\| (-?nan|-?inf) \|' "$folder/results.md"
check "figures are numbers" $?
grep -q 'Emulated: a figure here says nothing' "$folder/results.md"
check "emulated figures are marked" $?
grep -qE '^[0-9]+ bars met, [0-9]+ missed\.$' "$folder/results.md"
check "bars are counted" $?
grep -q '^# ops with a CUDA kernel that were not timed:' "$folder/said"
check "ops that were not timed are named" $?
# Everything is timed but what takes several ranks and what the queue needs.
left=$(sed -n 's/^# ops with a CUDA kernel that were not timed: *//p' "$folder/said")
rest=''
for op in $left; do
  case $op in
    all_reduce | reduce_scatter | exchange_rows | exchange_rows_grad | all_gather | fetch_rows) ;;
    *) rest="$rest $op" ;;
  esac
done
[ -z "$rest" ]
check "every op is timed:$rest" $?
bench --quick --emulated --output "$folder/results.md" copy
[ "$(grep -c '^### copy$' "$folder/results.md")" = 2 ]
check "a second run comes below the first" $?
bench --quick --emulated sections-unknown
check "an unknown section is refused" $(($? == 0))
bench --emulated copy
check "the emulator takes tiny sizes alone" $(($? != 2))
WEFT_EMULATED_DEVICES=0 bench --quick --emulated copy
check "no GPU: exit status" $(($? == 0))
grep -q 'gpu_bench: no GPU is visible to this process' "$folder/said"
check "no GPU: the message" $?
if python3 -c 'import torch' 2>/dev/null; then
  bench --quick --emulated --output "$folder/torch.md" step torch-eager
  check "beside torch: exit 0" $?
  grep -q 'ours against torch' "$folder/torch.md"
  check "beside torch: a ratio" $?
else
  number=$((number + 1))
  echo "ok $number - beside torch # SKIP python3 has no torch"
fi
echo "1..$number"
exit $failed
