#!/usr/bin/env bash
# bench/cuda-report on logs as ptxas writes them: what it lists, and what it says without objects and tools.
set -u
cd "$(dirname "$0")/../.." || exit 1
folder=$(mktemp -d "${TMPDIR:-/tmp}/cuda-report.XXXXXX") || exit 1
trap 'rm -rf "$folder"' EXIT
number=0
failed=0
check() { # name, condition's exit status
  number=$((number + 1))
  if [ "$2" -eq 0 ]; then echo "ok $number - $1"; else echo "not ok $number - $1"; failed=1; fi
}

mkdir -p "$folder/build/runtime/ops" "$folder/bin"
touch "$folder/build/runtime/ops/a.cu.o" "$folder/build/runtime/ops/b.cu.o"
cat >"$folder/build/runtime/ops/a.cu.o.log" <<'LOG'
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_Z4copyPf' for 'sm_80'
ptxas info    : Function properties for _Z4copyPf
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 31 registers, used 1 barriers, 1024 bytes smem, 384 bytes cmem[0]
ptxas info    : Compile time = 1.4 ms
ptxas info    : Compiling entry function '_Z4copyPf' for 'sm_90a'
ptxas info    : Function properties for _Z4copyPf
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 28 registers, used 1 barriers
LOG
cat >"$folder/bin/cuobjdump" <<'TOOL'
#!/bin/sh
cat <<'SASS'
Fatbin elf code:
arch = sm_90a
	code for sm_90a
		Function : _Z4copyPf
        /*0110*/                   HMMA.16816.F32.BF16 R4, R8, R12, R4 ;
        /*0120*/                   LDG.E.128 R4, desc[UR4][R2.64] ;
        /*0120*/                   STG.E.U16 desc[UR4][R2.64], R0 ;
        /*0130*/                   HMMA.16816.F32.BF16 R4, R8, R14, R4 ;
SASS
TOOL
chmod +x "$folder/bin/cuobjdump"

report() { # further PATH, arguments
  local path=$1
  shift
  PATH=$path:/usr/bin:/bin bench/cuda-report --no-install --build "$folder/build" "$@" >"$folder/out" 2>&1
}

report "$folder/bin"
check "no spills: exit 0" $?
grep -qE '^runtime/ops/a.cu +sm_80 +31 +0 +0 +0 +1024 +[?] +[?] +[?]  copy$' "$folder/out"
check "a kernel that the disassembler does not know" $?
grep -qE '^runtime/ops/a.cu +sm_90a +28 +0 +0 +0 +0 +2 +1 +1  copy$' "$folder/out"
check "two tensor-core instructions, one wide and one narrow access" $?
grep -q '^2 kernels, 0 with spills, at most 31 registers$' "$folder/out"
check "the sum" $?

cat >"$folder/build/runtime/ops/b.cu.o.log" <<'LOG'
ptxas info    : Compiling entry function '_Z5spillPf' for 'sm_90a'
ptxas info    : Function properties for _Z5spillPf
    336 bytes stack frame, 340 bytes spill stores, 552 bytes spill loads
ptxas info    : Used 168 registers, used 0 barriers, 336 bytes cumulative stack size
LOG
report "$folder/bin"
check "a spill: exit 1" $(($? != 1))
grep -qE '^runtime/ops/b.cu +sm_90a +168 +340 +552 +336 +0 +[?] +[?] +[?]  spill$' "$folder/out"
check "a kernel that spills" $?
report "$folder/bin" --only a.cu
check "--only leaves it out" $?

if [ -x /usr/bin/cuobjdump ] || [ -x /usr/local/cuda/bin/cuobjdump ]; then
  echo "ok $((number + 1)) - without cuobjdump # SKIP this machine has it"
  number=$((number + 1))
else
  report /nowhere --only a.cu
  grep -q 'not counted: there is no cuobjdump' "$folder/out" && grep -qE ' +\?  copy$' "$folder/out"
  check "without cuobjdump" $?
fi

rm -r "$folder/build/runtime"
report "$folder/bin"
check "no objects: exit 2" $(($? != 2))
grep -q 'no CUDA object in .*; this needs nvcc' "$folder/out"
check "no objects: the message" $?
echo "1..$number"
exit $failed
