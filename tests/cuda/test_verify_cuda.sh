#!/usr/bin/env bash
# weft verify on the emulated GPU, with the tolerances of the CPU.   needs=shared/golden timeout=400
set -u
build=${WEFT_BUILD:-build/release}
weft=$build/emulated/weft
file=${WEFT_SHARED:-../shared}/golden/fiber_coarse_mini.h5
if [ ! -x "$weft" ]; then
  echo "ok 1 - weft verify --device cuda # SKIP no $weft"
  echo 1..1
  exit 0
fi
count=0 failed=0
for dtype in f32 bf16; do
  # A sanitizer makes a pass take minutes.
  [ -n "${WEFT_SANITIZER:-}" ] && [ $dtype = f32 ] && continue
  said=$("$weft" verify --device cuda --dtype $dtype "$file" 2>&1)
  code=$?
  count=$((count + 1))
  case $code:$said in
    0:*" values compared, 0 outside the tolerances;"*) echo "ok $count - golden values in $dtype" ;;
    *)
      echo "not ok $count - golden values in $dtype"
      echo "$said" | tail -n 20 | sed 's/^/# /'
      failed=1
      ;;
  esac
done
echo "1..$count"
exit $failed
