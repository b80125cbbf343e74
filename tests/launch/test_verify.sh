#!/usr/bin/env bash
# weft verify: golden files pass; copies of one with a single thing changed fail, and say what.
# needs=shared/golden,python:h5py timeout=240
set -u
weft=${WEFT_BUILD:-build/release}/weft
shared=${WEFT_SHARED:-../shared}/golden
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
count=0 failed=0
check() { # name, expected, found
  count=$((count + 1))
  if [ "$2" = "$3" ]; then
    echo "ok $count - $1"
  else
    echo "not ok $count - $1"
    printf '# expected: %s\n# found:    %s\n' "$2" "$3"
    failed=1
  fi
}
says() { # name, part of what the last command said
  local found=$last
  case $last in *"$2"*) found=$2 ;; esac
  check "$1" "$2" "$found"
}
refuses() { # name, exit code, part of what is said, command...
  local name=$1 code=$2 part=$3
  shift 3
  last=$("$@" 2>&1 </dev/null)
  check "$name: exit code" "$code" $?
  says "$name: message" "$part"
}

# Files with a model's config; others of the folder are for other tests.
files=$(python3 - "$shared" "${WEFT_GOLDEN_DIR:-$shared}" <<'PY'
import glob, os, sys, h5py
found = {os.path.realpath(f) for d in sys.argv[1:] for f in glob.glob(os.path.join(d, "*.h5"))}
print("\n".join(f for f in sorted(found) if "config" in h5py.File(f, "r").attrs))
PY
)
for file in $files; do
  said=$("$weft" verify "$file" 2>&1)
  check "$(basename "$file") passes" 0 $?
  case $said in
    *" values compared, 0 outside the tolerances;"*) said=all ;;
  esac
  check "$(basename "$file") says so" all "$said"
  said=$("$weft" verify --dtype bf16 "$file" 2>&1)
  check "$(basename "$file") passes in bf16" 0 $?
  case $said in
    *" values compared, 0 outside the tolerances;"*) said=all ;;
  esac
  check "$(basename "$file") says so in bf16" all "$said"
done

# A copy without training steps, and copies of it with one change each.
python3 - "$shared/fiber_coarse_mini.h5" "$folder" <<'PY'
import shutil, sys, h5py, numpy as np
source, folder = sys.argv[1:]
base = folder + "/base.h5"
with h5py.File(source, "r") as f, h5py.File(base, "w") as g:
    for name in f.attrs:
        g.attrs[name] = f.attrs[name]
    for name in f:
        if name != "train":
            f.copy(name, g)

def copy(name, change):
    path = f"{folder}/{name}.h5"
    shutil.copy(base, path)
    with h5py.File(path, "r+") as f:
        change(f)

def scale(name, factor):
    def change(f):
        f[name][...] = f[name][...] * np.float64(factor)
    return change

def replace(name, values):
    def change(f):
        del f[name]
        f[name] = values(f) if callable(values) else values
    return change

weight = "params/vit_model.layers.2.blocks.17.attn.qkv_i2t.weight"
def nudge(f):
    w = f[weight][...]
    w[3, 5] += 0.05
    f[weight][...] = w
copy("weight", nudge)
copy("loss", scale("loss/itc", 1 + 3e-5))
copy("gradient", scale("grad/temp", 1.002))
copy("output", scale("out/itm_logits", 1.0001))
copy("nan", scale("loss/mlm", float("nan")))
def hole(f):
    f["out/fused_cls"][1, 7] = np.nan
copy("hole", hole)
copy("other", scale("loss/mlm", 1.02))
def scale_all(f):
    f["grad"].visititems(lambda name, d: d.write_direct(np.float32(1.0001) * d[()])
                         if isinstance(d, h5py.Dataset) and d.shape else None)
copy("scaled", scale_all)
def gates(f):
    names = []
    f["grad"].visit(names.append)
    for name in names:
        if name.endswith(".alpha_i2t"):
            f["grad"][name][...] *= 1.5
copy("gates", gates)
copy("missing", lambda f: f.__delitem__("params/mlm_score.bias"))
copy("shape", replace("params/cross_modal_image_transform.weight", np.zeros((128, 48), "f4")))
copy("rank", replace("input/ids", np.zeros((4, 12, 1), "i4")))
copy("inputs", replace("input/image", np.zeros((4, 3, 96), "f4")))
copy("unknown", replace("grad/temp", np.float32(0)))
with h5py.File(folder + "/unknown.h5", "r+") as f:
    f["params/temperature"] = np.float32(1)
    f["grad/temperature"] = np.float32(0)
copy("dead", lambda f: f.__setitem__("params/another_head.weight", np.zeros(3, "f4")))
copy("absent", lambda f: f.__delitem__("grad/cross_modal_text_transform.bias"))
copy("config", lambda f: f.attrs.__setitem__("config", f.attrs["config"].replace('"window": 3', '"window": 5')))
copy("json", lambda f: f.attrs.__setitem__("config", "[1"))
copy("noconfig", lambda f: f.attrs.__delitem__("config"))
data = open(base, "rb").read()
open(folder + "/truncated.h5", "wb").write(data[: len(data) // 2])
open(folder + "/text.h5", "w").write("not HDF5\n")

# Training: the source with other numbers after the steps.
train = folder + "/train.h5"
shutil.copy(source, train)
with h5py.File(train, "r+") as f:
    f["train/losses"][4, 1] *= 1.01
    f["train/final_params/temp" if "temp" in f["train/final_params"] else
      "train/final_l2/temp"][...] = 0.5
PY
check "copies are made" 0 $?

refuses "one weight" 1 "weight.h5: 709 values compared" "$weft" verify "$folder/weight.h5"
says "one weight: where it shows" "FAILED grad/vit_model.layers.2.blocks.17.attn.norm_i2t_i.bias"
refuses "one loss" 1 "loss.h5: 709 values compared, 1 outside the tolerances; worst loss/itc" \
  "$weft" verify "$folder/loss.h5"
refuses "one gradient" 1 "FAILED grad/temp " \
  "$weft" verify "$folder/gradient.h5"
refuses "one output" 1 "1 outside the tolerances; worst out/itm_logits" "$weft" verify "$folder/output.h5"
refuses "not a number" 1 "1 outside the tolerances; worst loss/mlm" "$weft" verify "$folder/nan.h5"
refuses "one element that is not a number" 1 "1 outside the tolerances; worst out/fused_cls at inf" \
  "$weft" verify "$folder/hole.h5"
refuses "bf16: a loss" 1 "worst loss/mlm" \
  "$weft" verify --dtype bf16 "$folder/other.h5"
refuses "bf16: the gates of one kind" 1 "1 outside the tolerances; worst all of grad/*alpha_i2t as one vector" \
  "$weft" verify --dtype bf16 "$folder/gates.h5"
last=$(WEFT_ISA=avx2 "$weft" verify --dtype bf16 "$shared/fiber_coarse_mini.h5" 2>&1)
check "bf16 without a processor's help: exit code" 0 $?
refuses "all gradients a little" 1 "1 outside the tolerances; worst all gradients as one vector" \
  "$weft" verify "$folder/scaled.h5"
refuses "a missing dataset" 1 "missing.h5: dataset 'params/mlm_score.bias' is missing" \
  "$weft" verify "$folder/missing.h5"
refuses "a transposed weight" 1 \
  "shape.h5: dataset 'params/cross_modal_image_transform.weight' is [128,48]; by the file's config it is [48,128]" \
  "$weft" verify "$folder/shape.h5"
refuses "another rank" 1 "rank.h5: dataset 'input/ids' is [4,12,1]; by the file's config it is [4,12]" \
  "$weft" verify "$folder/rank.h5"
refuses "no pictures" 1 "inputs.h5: dataset 'input/image' is not [B,3,S,S]" "$weft" verify "$folder/inputs.h5"
refuses "an unknown parameter" 1 "unknown.h5: params/temperature is not a parameter of this model" \
  "$weft" verify "$folder/unknown.h5"
check "an unknown parameter without a gradient passes" 0 \
  "$("$weft" verify "$folder/dead.h5" >/dev/null 2>&1; echo $?)"
refuses "a gradient too much" 1 "worst grad/cross_modal_text_transform.bias (absent)" \
  "$weft" verify "$folder/absent.h5"
refuses "a model that cannot be" 1 "model.window: window 5 does not divide the 24 tokens" \
  "$weft" verify "$folder/config.h5"
refuses "a config that is no JSON" 1 "json.h5: attribute 'config' is not a JSON object" \
  "$weft" verify "$folder/json.h5"
refuses "no config" 1 "noconfig.h5: no attribute 'config'" "$weft" verify "$folder/noconfig.h5"
refuses "half a file" 1 "truncated.h5: not a readable HDF5 file" "$weft" verify "$folder/truncated.h5"
refuses "no HDF5" 1 "text.h5: not a readable HDF5 file" "$weft" verify "$folder/text.h5"
refuses "no file" 1 "$folder/none.h5: cannot open" "$weft" verify "$folder/none.h5"
refuses "training: a loss" 1 "FAILED train/losses[4] itc" "$weft" verify "$folder/train.h5"
says "training: a parameter" "train.h5: 1433 values compared, 2 outside the tolerances"
refuses "one bad of two" 1 "base.h5: 709 values compared, 0 outside" \
  "$weft" verify "$folder/text.h5" "$folder/base.h5"
refuses "no file named" 2 "usage: weft verify" "$weft" verify
refuses "another dtype" 2 "--dtype f16: f32 or bf16" "$weft" verify --dtype f16 "$folder/base.h5"
echo "1..$count"
exit $failed
