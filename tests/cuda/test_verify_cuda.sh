#!/usr/bin/env bash
# weft verify on the emulated GPU, with the tolerances of the CPU, in f32 and bf16: values, losses, gradients. Its training
# steps, which are left out here, take minutes.   needs=shared/golden,python:h5py timeout=240 asan=no
set -u
build=${WEFT_BUILD:-build/release}
weft=$build/emulated/weft
if [ ! -x "$weft" ]; then
  echo "ok 1 - weft verify --device cuda # SKIP no $weft"
  echo 1..1
  exit 0
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 - "${WEFT_SHARED:-../shared}/golden/fiber_coarse_mini.h5" "$folder/base.h5" <<'PY' || exit 1
import sys, h5py
with h5py.File(sys.argv[1], "r") as f, h5py.File(sys.argv[2], "w") as g:
    for name in f.attrs:
        g.attrs[name] = f.attrs[name]
    for name in f:
        if name != "train":
            f.copy(name, g)
PY
count=0 failed=0
for dtype in f32 bf16; do
  count=$((count + 1))
  said=$("$weft" verify --device cuda --dtype $dtype "$folder/base.h5" 2>&1)
  case $?:$said in
    0:*" values compared, 0 outside the tolerances;"*) echo "ok $count - golden values in $dtype" ;;
    *)
      echo "not ok $count - golden values in $dtype"
      echo "$said" | tail -n 20 | sed 's/^/# /'
      failed=1
      ;;
  esac
done
echo 1..$count
exit $failed
