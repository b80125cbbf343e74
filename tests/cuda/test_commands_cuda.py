"""weft plan, eval and infer on the emulated GPU: the numbers of the CPU, memory that is told before it is missing, and
algorithms of products that are timed once.   timeout=240
asan=no (a sanitizer takes a minute here, and sees the same code in test_cuda_tuning and test_cuda_training)
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
    "batch.global": 2, "train.steps": 1, "eval.batch": 4, "eval.rerank": 2, "optimizer.ema_decay": 0.5,
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
    # Sums of columns that other kernels compute along are no ops of the GPU's plan.
    flops = [one["micro_batch"]["flops"]["distinct"] for one in (plan, cpu)]
    place.case(0.99 < flops[0] / flops[1] <= 1 and "seconds" not in plan,
               "with the FLOPs of the CPU's, and no time", flops)
    bare = weft(GPU, "plan", "recipe.yaml", "--device", "cuda", "--json", *sets, WEFT_EMULATED_DEVICES="0",
                WEFT_EMULATED_DRIVER="0")
    place.case(bare.stdout == done.stdout, "the same where there is no GPU", bare.stderr)
    text = weft(GPU, "plan", "recipe.yaml", "--device", "cuda", *sets)
    place.case("fiber, f32 on GPUs" in text.stdout and "memory of a rank's GPU" in text.stdout
               and "beside it: batches" in text.stdout and "time of an update" not in text.stdout,
               "as text", text.stdout)
    train_fixture.WEFT = GPU
    less = {**SETTINGS, "train.device": "cuda", "batch.global": 32, "data.eval_sets": "[]"}
    place.environment["WEFT_EMULATED_MEMORY"] = str(memory["peak"] // 2**20 + 4)
    result = place.train(None, "large", less)
    train_fixture.WEFT = CPU
    del place.environment["WEFT_EMULATED_MEMORY"]
    place.case(result.code != 0 and "of its 32 samples would fit (batch.micro)" in result.said,
               "the samples that would fit are told", result.said)


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
    cache = place.path("cache")
    found = []
    for program, device in ((CPU, "cpu"), (GPU, "cuda"), (GPU, "cuda")):
        done = weft(program, "infer", "-c", "run", "--device", device, "missing.png", "scene.png", *texts,
                    WEFT_CUDA_TUNING=cache)
        found.append((done.returncode, done.stdout, done.stderr))
    first, again = found[1][2], found[2][2]
    place.case(" products timed in " in first and cache in first and "timed" not in again,
               "products are timed once, and kept", first, again)
    place.case(found[1][1] == found[2][1], "which gives the same bits", *found)
    scores = [[(score["similarity"], score["match"]) for score in json.loads(out)["images"][1]["scores"]]
              for _, out, _ in found]
    close = all(abs(a - b) < 1e-4 for one, two in zip(*scores[:2]) for a, b in zip(one, two))
    place.case(found[0][0] == found[1][0] == 1 and close and "error" in json.loads(found[1][1])["images"][0],
               "weft infer: the scores of the CPU", *found)


place.weft("pack", "scenes", "--size", "64", "--count", "5", "--captions", "2", "--split", "test", "-q",
           "-o", "test-%05d.h5")
plans()
train_fixture.WEFT = GPU
done = place.train(None, "run", {**SETTINGS, "train.device": "cuda"})
place.case(done.code == 0, "a run to look at", done.said)
train_fixture.WEFT = CPU
evaluated()
inferred()
place.end()
