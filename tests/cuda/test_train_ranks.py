"""weft train --device cuda on several emulated GPUs: the losses of as many CPU ranks, sharded or not; a run that goes on
on other ranks and devices; what is refused; and a GPU, a rank or NCCL that fails in the middle of a run.   timeout=400 alone=yes
asan=no (a sanitizer takes minutes here, and sees the same code in test_cuda_ranks)
"""

import os
import shutil
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "launch"))
import train_fixture  # noqa: E402
from train_fixture import BUILD, Place, largest_error  # noqa: E402

CPU = train_fixture.WEFT
GPU = os.path.join(BUILD, "emulated", "weft")
SMALL = {
    "batch.global": 6, "train.steps": 3, "checkpoint.every": 1, "optimizer.ema_decay": 0.9,
}
SHARD = {**SMALL, "optimizer.shard": "true"}
place = Place()
place.environment["WEFT_EMULATED_DEVICES"] = "4"


def trained(device, ranks, run, settings):
    train_fixture.WEFT = GPU if device == "cuda" else CPU
    return place.trained(ranks, run, {**settings, "train.device": device})


def started(ranks, run, settings, environment):
    train_fixture.WEFT = GPU
    kept = dict(place.environment)
    place.environment.update(environment)
    process = place.start(place.command(ranks, run, {**settings, "train.device": "cuda"}))
    place.environment = kept
    return process


def refused(name, parts, environment, ranks):
    began = time.monotonic()
    result = place.finish(started(ranks, "refused", SMALL, environment))
    seconds = time.monotonic() - began
    good = result.code not in (0, None) and all(part in result.said for part in parts)
    once = result.said.count(parts[0]) == 1
    place.case(good and once, f"refused: {name}", result.code, f"{seconds:.1f} s", result.said)


def fails(name, parts, environment, every=9):
    """A run that has a checkpoint and fails before the next one is complete, and what is left of it."""
    run = name.replace(" ", "-")
    shutil.copytree(place.path("base"), place.path(run))
    began = time.monotonic()
    result = place.finish(started(2, run, {**SMALL, "train.steps": 9, "checkpoint.every": every},
                                  environment))
    seconds = time.monotonic() - began
    good = result.code not in (0, None) and all(part in result.said for part in parts)
    place.case(good and seconds < 60, name, result.code, f"{seconds:.1f} s", result.said)
    saved = os.listdir(place.path(run, "checkpoints"))
    steps = trained("cpu", 2, run, {**SMALL, "train.steps": 4})
    place.case(4 in steps and not any("2.h5" in file for file in saved),
               f"{name}: the last checkpoint is whole, and no other there", saved, steps)


if not os.access(GPU, os.X_OK):
    place.skip("weft train --device cuda", f"no {GPU}")
    place.end()

for ranks in (2, 3):
    cpu = trained("cpu", ranks, f"cpu-{ranks}", SMALL)
    for name, settings in (("whole", SMALL), ("sharded", SHARD))[ranks - 2:]:
        cuda = trained("cuda", ranks, f"cuda-{ranks}-{name}", settings)
        error = largest_error(cpu, cuda, range(1, 4))
        place.case(error < 1e-4, f"{ranks} ranks, {name}: the losses of the CPU (to {error:.1e})", cpu, cuda)

# Above, objectives share: drawn features travel, and their gradients travel back. Apart, raw inputs do.
apart = {**SMALL, "objectives.share": "false"}
cpu = trained("cpu", 2, "cpu-apart", apart)
cuda = trained("cuda", 2, "cuda-apart", apart)
error = largest_error(cpu, cuda, range(1, 4))
place.case(error < 1e-4, f"objectives apart (to {error:.1e})", cpu, cuda)
# On: two sharded GPUs, then three CPU ranks, then three GPUs; and three CPU ranks all the way.
longer = {**SMALL, "train.steps": 5}
trained("cuda", 2, "mixed", {**SHARD, "train.steps": 3})
trained("cpu", 3, "mixed", {**SHARD, "train.steps": 4})
mixed = trained("cuda", 3, "mixed", {**SHARD, "train.steps": 5})
whole = trained("cpu", 3, "whole", longer)
error = largest_error(whole, mixed, range(1, 6))
place.case(error < 1e-3, f"a run goes on on other ranks and devices (to {error:.1e})", whole, mixed)

refused("two ranks on a GPU", ["ranks 0 and 1 on", "have the same GPU", "--gpus-per-task=1"],
        {"WEFT_EMULATED_DEVICES": "1"}, 2)
refused("fewer GPUs than ranks", ["shows its ranks 2 GPUs, but has 3 ranks"], {"WEFT_EMULATED_DEVICES": "2"}, 3)
refused("another NCCL", ["has NCCL 2.28.9, and rank 1 on", "LD_LIBRARY_PATH"], {"WEFT_EMULATED_NCCL": "1:22105"}, 2)
refused("no bf16 on one rank", ["rank 1", "compute capability 7.5"], {"WEFT_EMULATED_CAPABILITY": "1:75"}, 2)
refused("out of memory on one rank", ["not one of its 3 samples would fit"], {"WEFT_EMULATED_MEMORY": "1:1"}, 2)

result = place.finish(started(2, "apart", {**SMALL, "train.steps": 1},
                              {"WEFT_EMULATED_DEVICES": "1", "WEFT_EMULATED_UUID": "1:3"}))
place.case(result.code == 0, "a GPU of its own for each rank", result.said)

trained("cuda", 2, "base", {**SMALL, "train.steps": 1})
fails("NCCL fails", ["rank 1 on", "NCCL:", "remote process exited"], {"WEFT_EMULATED_NCCL_ERROR": "1:25"})
fails("a GPU fails", ["rank 1 on", "GPU 1, emulated GPU", "unspecified launch failure"], {"WEFT_EMULATED_FAILURE": "1:1500"})
# When it had the run's numbers, and was not waited for.
fails("a GPU fails in the update", ["rank 1 on", "GPU 1, emulated GPU", "unspecified launch failure"],
      {"WEFT_EMULATED_FAILURE": "1:adamw_kernel"}, every=1)

# A rank that is killed while the others wait for it.
process = started(2, "killed", {**SMALL, "train.steps": 500, "checkpoint.every": 1}, {})
place.wait_for_step(process, "killed", 2)
ranks = place.ranks_of(process)
began = time.monotonic()
if len(ranks) == 2:
    os.kill(ranks[1], 9)
result = place.finish(process)
seconds = time.monotonic() - began
place.case(result.code not in (0, None) and seconds < 30, "a rank is killed", result.code, f"{seconds:.1f} s", result.said)
steps = trained("cpu", 3, "killed", {**SMALL, "train.steps": max(place.steps("killed")) + 1})
place.case(bool(steps), "a rank is killed: the last checkpoint is whole")
place.end()
