"""weft plan, eval and infer on the emulated GPU: the numbers of the CPU, memory that is told before it is missing, and
algorithms of products that are timed once.   timeout=300
"""

import json
import os
import struct
import subprocess
import sys
import zlib

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "launch"))
import train_fixture  # noqa: E402
from train_fixture import BUILD, Place  # noqa: E402

CPU = train_fixture.WEFT
GPU = os.path.join(BUILD, "emulated", "weft")
place = Place()
if not os.access(GPU, os.X_OK):
    place.skip("weft eval --device cuda", f"no {GPU}")
    place.end()
SETTINGS = {
    "batch.global": 4, "train.steps": 2, "eval.batch": 4, "eval.rerank": 2, "optimizer.ema_decay": 0.5,
    "data.eval_sets": '[{path: "test-*.h5"}]',
}


def weft(program, *arguments, **environment):
    return subprocess.run([program, *arguments], cwd=place.folder,
                          env={**place.environment, **environment}, capture_output=True, text=True,
                          check=False, timeout=200)


def plans():
    sets = [part for key, value in SETTINGS.items() for part in ("--set", f"{key}={value}")]
    done = weft(GPU, "plan", "recipe.yaml", "--device", "cuda", "--json", *sets)
    cpu = json.loads(weft(CPU, "plan", "recipe.yaml", "--json", "--no-probe", *sets).stdout)
    plan = json.loads(done.stdout)
    memory = plan["memory"]
    classes = [size for name, size in memory.items() if name not in ("peak", "checkpoint_staging", "host")]
    place.case(memory["peak"] + memory["host"] == sum(classes) and memory["host"] >= memory["loader"] > 0
               and memory["moments"] == 2 * memory["ema"] > 0, "a plan for a GPU", done.stdout)
    place.case(plan["micro_batch"]["flops"]["distinct"] == cpu["micro_batch"]["flops"]["distinct"]
               and "seconds" not in plan, "with the FLOPs of the CPU's, and no time", plan["micro_batch"]["flops"])
    bare = weft(GPU, "plan", "recipe.yaml", "--device", "cuda", "--json", *sets, WEFT_EMULATED_DEVICES="0",
                WEFT_EMULATED_DRIVER="0")
    place.case(bare.stdout == done.stdout, "the same where there is no GPU", bare.stderr)
    text = weft(GPU, "plan", "recipe.yaml", "--device", "cuda", *sets)
    place.case("fiber, f32 on GPUs" in text.stdout and "memory of a rank's GPU" in text.stdout
               and "beside it: batches" in text.stdout and "time of an update" not in text.stdout,
               "as text", text.stdout)
    # What fits is what the plan says: with a little more memory than its peak the step starts, with
    # less it is told how many samples would fit.
    need = memory["peak"] // 2**20 + 4
    train_fixture.WEFT = GPU
    less = {**SETTINGS, "train.device": "cuda", "batch.global": 32, "data.eval_sets": "[]"}
    place.environment["WEFT_EMULATED_MEMORY"] = str(need)
    result = place.train(None, "large", less)
    train_fixture.WEFT = CPU
    del place.environment["WEFT_EMULATED_MEMORY"]
    place.case(result.code != 0 and "of its 32 samples would fit (batch.micro)" in result.said,
               "the samples that would fit are told", result.said)
    return need


def timed(memory):
    """Trains on the GPU, with algorithms that are kept in a file."""
    cache = place.path("cache")
    place.environment["WEFT_CUDA_TUNING"] = cache
    place.environment["WEFT_EMULATED_MEMORY"] = str(memory)
    train_fixture.WEFT = GPU
    first = place.train(None, "run", {**SETTINGS, "train.device": "cuda"})
    place.case(first.code == 0 and " products timed in " in first.said and cache in first.said,
               "products are timed in the first run", first.said)
    with open(cache, "rb") as file:
        kept = file.read()
    again = place.train(None, "again", {**SETTINGS, "train.device": "cuda"})
    with open(cache, "rb") as file:
        same = file.read() == kept
    place.case(again.code == 0 and "products timed" not in again.said and same, "and not in the next",
               again.said)
    losses = [[step["losses"] for step in place.steps(run).values()] for run in ("run", "again")]
    place.case(losses[0] == losses[1], "which has the same losses, bit for bit", *losses)
    with open(cache, "wb") as file:
        file.write(kept[:-9])
    damaged = place.train(None, "damaged", {**SETTINGS, "train.device": "cuda", "train.steps": 1})
    place.case(damaged.code == 0 and damaged.said.count("holds no algorithms for this GPU (it is damaged)") == 1
               and " products timed in " in damaged.said, "a damaged file is told once and made anew",
               damaged.said)
    train_fixture.WEFT = CPU
    del place.environment["WEFT_EMULATED_MEMORY"]
    place.environment["WEFT_CUDA_TUNING"] = "off"


def metrics(program, *options):
    done = weft(program, "eval", "run", "--json", *options)
    if done.returncode != 0:
        return done.stderr
    return json.loads(done.stdout)["metrics"]


def evaluated():
    cpu = metrics(CPU, "--device", "cpu", "--ema")
    gpu = metrics(GPU, "--device", "cuda", "--ema")
    place.case(isinstance(cpu, dict) and cpu == gpu, "weft eval: the recalls of the CPU", cpu, gpu)
    other = weft(CPU, "eval", "run", "--json")
    known = ("built without CUDA", "no NVIDIA driver", "no GPU is visible")
    if not os.path.exists("/dev/nvidia0"):
        place.case(other.returncode != 0 and any(part in other.stderr for part in known),
                   "a run of a GPU says so where there is none", other.stderr)


def write_picture(name):
    """A PNG of 40 x 48 pixels with a red square on a slope of blue."""
    rows = b"".join(b"\0" + b"".join(bytes((220, 10, 10)) if 10 < x < 25 and 8 < y < 30 else bytes((0, y, 5 * x))
                                     for x in range(40)) for y in range(48))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    with open(place.path(name), "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 40, 48, 8, 2, 0, 0, 0))
                   + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def inferred():
    write_picture("scene.png")
    texts = ["--text", "a red circle", "--text", "two blue squares"]
    found = []
    for program, device in ((CPU, "cpu"), (GPU, "cuda")):
        done = weft(program, "infer", "-c", "run", "--device", device, "missing.png", "scene.png", *texts)
        found.append((done.returncode, done.stdout, done.stderr))
    scores = [[(score["similarity"], score["match"]) for score in json.loads(out)["images"][1]["scores"]]
              for _, out, _ in found]
    close = all(abs(a - b) < 1e-4 for one, two in zip(*scores) for a, b in zip(one, two))
    place.case(found[0][0] == found[1][0] == 1 and close and "error" in json.loads(found[1][1])["images"][0],
               "weft infer: the scores of the CPU", *found)


place.weft("pack", "scenes", "--size", "64", "--count", "5", "--captions", "2", "--split", "test", "-q",
           "-o", "test-%05d.h5")
timed(plans())
evaluated()
inferred()
place.end()
