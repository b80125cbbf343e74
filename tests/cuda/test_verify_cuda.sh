#!/usr/bin/env bash
# weft verify on the emulated GPU, with the tolerances of the CPU, in f32: values, losses and gradients. Its training
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
said=$("$weft" verify --device cuda "$folder/base.h5" 2>&1)
code=$?
case $code:$said in
  0:*" values compared, 0 outside the tolerances;"*) echo "ok 1 - golden values in f32" ;;
  *)
    echo "not ok 1 - golden values in f32"
    echo "$said" | tail -n 20 | sed 's/^/# /'
    code=1
    ;;
esac
echo 1..1
exit $code
