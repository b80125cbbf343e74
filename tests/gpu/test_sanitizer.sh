#!/usr/bin/env bash
# The op tests under compute-sanitizer: no bad address (memcheck), no race in shared memory (racecheck), no read of
# memory that nobody wrote (initcheck).   needs=cuda,compute-sanitizer timeout=900
set -u
build=${WEFT_BUILD:-build/release}
count=0 failed=0
for tool in memcheck racecheck initcheck; do
  for program in "$build"/gpu/tests/cuda/test_ops_* "$build"/gpu/tests/cuda/test_attention; do
    case $program in *.o | *.d) continue ;; esac
    count=$((count + 1))
    # In a bundle the program is started by another one.
    said=$(timeout 300 compute-sanitizer --tool $tool --target-processes all --error-exitcode 86 "$program" 2>&1)
    code=$?
    if [ $code -eq 0 ] && grep -qE 'ERROR SUMMARY: 0 errors|RACECHECK SUMMARY: 0 hazards' <<<"$said"; then
      echo "ok $count - $tool $(basename "$program")"
    else
      echo "not ok $count - $tool $(basename "$program"): exit $code"
      grep -E '=====|not ok|SUMMARY' <<<"$said" | head -n 40 | sed 's/^/# /'
      failed=1
    fi
  done
done
[ $count -gt 0 ] || { echo "not ok 1 - there are no op tests in $build/gpu"; failed=1; }
echo "1..$count"
exit $failed
