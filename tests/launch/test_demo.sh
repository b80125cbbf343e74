#!/usr/bin/env bash
# The demo command in good and bad environments: ranks, threads, instruction sets, launchers, places it cannot write to.
# needs=mpirun timeout=120
set -u
cd "$(dirname "$0")/../.." || exit 1
weft=${WEFT_BUILD:-$PWD/build/release}/weft
[ -x "$weft" ] || { echo "ok 1 - demo # SKIP no $weft"; echo "1..1"; exit 0; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
count=0 failed=0
expect() { # description, exit code (or "bad" for any but 0), text in the output, command...
  local description=$1 wanted=$2 text=$3 output rc good=1
  shift 3
  output=$("$@" 2>&1 </dev/null)
  rc=$?
  count=$((count + 1))
  if [ "$wanted" = bad ]; then [ $rc -ne 0 ] || good=0; else [ $rc -eq "$wanted" ] || good=0; fi
  grep -qF -- "$text" <<<"$output" || good=0
  if [ $good -eq 1 ]; then
    echo "ok $count - $description"
  else
    echo "not ok $count - $description (exit $rc)"
    sed 's/^/# /' <<<"$output" | tail -20
    failed=1
  fi
}
expect "one process without mpirun" 0 "held out" "$weft" demo --out "$dir/one"
expect "two ranks" 0 "2 ranks" mpirun -q -np 2 "$weft" demo --out "$dir/two"
expect "the report is there" 0 "Held-out accuracy" cat "$dir/two/report.html"
expect "more ranks than the batch divides over" bad "does not divide over 3 ranks" \
  mpirun -q -np 3 "$weft" demo --out "$dir/three"
expect "one thread" 0 "held out" env OMP_NUM_THREADS=1 "$weft" demo --out "$dir/threads"
expect "a number of threads that is none" 2 "OMP_NUM_THREADS=many: set it to a number" \
  env OMP_NUM_THREADS=many "$weft" demo --out "$dir/threads"
expect "no AVX-512" 0 "held out" env WEFT_ISA=avx2 "$weft" demo --out "$dir/avx2"
expect "scalar code" 0 "held out" env WEFT_ISA=scalar "$weft" demo --out "$dir/scalar"
expect "alone where a launcher promised four" bad "SLURM_NTASKS" \
  env SLURM_NTASKS=4 "$weft" demo --out "$dir/slurm"
touch "$dir/file"
expect "a place that cannot be written to" bad "$dir/file/x/report.html: cannot write the report" \
  "$weft" demo --out "$dir/file/x"
expect "an unknown option" 2 "unrecognized option" "$weft" demo --frobnicate
expect "an unknown command" 2 "did you mean 'demo'" "$weft" dmo
echo "1..$count"
exit $failed
