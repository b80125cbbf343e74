#!/usr/bin/env bash
# The op tests again at each lower instruction set: its vector kernels, its attention, oneDNN limited to it,
# and below AVX-512 the bf16 products that are computed in f32.   timeout=240 asan=no
set -u
programs="basic product norm random"
count=$(wc -w <<<"$programs")
echo "1..$((3 * count))"
export WEFT_TEST_QUICK=1 CMOCKA_MESSAGE_OUTPUT=STDOUT
number=0 failed=0
for isa in scalar avx2 avx512; do
  for name in $programs; do
    number=$((number + 1))
    if output=$(WEFT_ISA=$isa "$WEFT_BUILD/tests/runtime/ops/test_ops_$name" 2>&1); then
      echo "ok $number - $name with $isa"
    else
      grep -E 'ERROR|error|FAILED' <<<"$output" | sed 's/^/# /' | head -20
      echo "not ok $number - $name with $isa"
      failed=1
    fi
  done
done
exit $failed
