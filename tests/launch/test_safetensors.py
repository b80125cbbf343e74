# Exported weights load in Python under the public names, and what Python saves comes in again, bit for bit.
# needs=python:safetensors,python:numpy timeout=60
import os
import subprocess
import sys
import tempfile

import numpy
from safetensors.numpy import load_file, save_file

top = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
build = os.environ.get("WEFT_BUILD", os.path.join(top, "build/release"))
number = 0


def case(name, good, detail=""):
    global number
    number += 1
    print(f"{'ok' if good else 'not ok'} {number} - {name}", flush=True)
    if not good:
        print(f"# {detail}", flush=True)
        sys.exit(1)


def run(*words):
    done = subprocess.run(words, capture_output=True, text=True, cwd=folder)
    return done.returncode, done.stdout + done.stderr


def same(a, b):
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


with tempfile.TemporaryDirectory() as folder:
    weft = os.path.realpath(os.path.join(build, "weft"))
    code, said = run(os.path.realpath(os.path.join(build, "tests/launch/test_import_export")), "--example", folder)
    case("a run is made", code == 0, said)
    code, said = run(weft, "export", "run", "-o", "model.safetensors")
    case("it is exported", code == 0, said)
    model = load_file(os.path.join(folder, "model.safetensors"))
    case("the safetensors package reads it", len(model) > 200, len(model))
    case("reference names and shapes",
         model["vit_model.patch_embed.proj.weight"].shape == (16, 3, 4, 4) and model["temp"].shape == () and
         model["text_transformer.encoder.layer.0.alpha_t2i"].shape == (1,) and
         model["text_transformer.pooler.dense.weight"].shape == (48, 48))
    case("rank_output is row 1 of the matching head",
         same(model["rank_output.weight"], model["itm_score.fc.weight"][1:2]) and
         same(model["rank_output.bias"], model["itm_score.fc.bias"][1:2]))
    # Swin's own way of making the index of relative positions.
    coords = numpy.stack(numpy.meshgrid(numpy.arange(3), numpy.arange(3), indexing="ij")).reshape(2, -1)
    relative = (coords[:, :, None] - coords[:, None, :]).transpose(1, 2, 0) + 2
    case("relative_position_index",
         same(model["vit_model.layers.2.blocks.1.attn.relative_position_index"],
              (relative[..., 0] * 5 + relative[..., 1]).astype(numpy.int64)))
    # And its mask: regions of the rolled picture, seen in windows.
    region = numpy.zeros((24, 24))
    for y, rows in enumerate((slice(0, -3), slice(-3, -1), slice(-1, None))):
        for x, columns in enumerate((slice(0, -3), slice(-3, -1), slice(-1, None))):
            region[rows, columns] = 3 * y + x
    windows = region.reshape(8, 3, 8, 3).transpose(0, 2, 1, 3).reshape(64, 9)
    mask = numpy.where(windows[:, None, :] != windows[:, :, None], -100.0, 0.0).astype(numpy.float32)
    case("attn_mask", same(model["vit_model.layers.0.blocks.1.attn_mask"], mask))

    save_file(model, os.path.join(folder, "python.safetensors"))
    code, said = run(weft, "import", "python.safetensors", "--config", "model.yaml", "-o", "back.safetensors")
    case("Python's file comes in", code == 0 and " 0 missing, 0 unused" in said, said)
    back = load_file(os.path.join(folder, "back.safetensors"))
    case("bit for bit", len(back) > 200 and all(same(back[name], model[name]) for name in back))
    save_file({name: value.astype(numpy.float16) if value.dtype == numpy.float32 else value
               for name, value in model.items()}, os.path.join(folder, "half.safetensors"))
    code, said = run(weft, "import", "half.safetensors", "--config", "model.yaml", "-o", "half.out.safetensors")
    back = load_file(os.path.join(folder, "half.out.safetensors")) if code == 0 else {}
    case("halves come in as numpy rounds them", len(back) > 200 and all(
        same(back[name], model[name].astype(numpy.float16).astype(numpy.float32)) for name in back), said)
print(f"1..{number}")
