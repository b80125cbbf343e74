"""weft train on the emulated GPU, where the next micro-batch is sent while one is computed: nobody notices. The numbers of
runs that never look ahead, the position of a run that is stopped with a batch ahead, and bad rows and samples, which are
told in their place.   needs=python:h5py timeout=400
asan=no (a sanitizer takes minutes here, and sees the same code in test_cuda_inputs)
"""

import os
import re
import shutil
import signal
import sys

import h5py

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "launch"))
import train_fixture  # noqa: E402
from train_fixture import BUILD, Place, first_difference, largest_error  # noqa: E402

CPU = train_fixture.WEFT
GPU = os.path.join(BUILD, "emulated", "weft")
place = Place()
place.environment["WEFT_EMULATED_DEVICES"] = "4"
place.environment["WEFT_CUDA_TUNING"] = "off"
if not os.access(GPU, os.X_OK):
    place.skip("weft train --device cuda", f"no {GPU}")
    place.end()
SMALL = {"batch.global": 4, "checkpoint.every": 1, "checkpoint.keep": 100, "train.device": "cuda"}
HALVES = {**SMALL, "batch.accumulate": 2}


def position(run, step):
    """position.yaml of a checkpoint, as {key: text}."""
    with h5py.File(place.path(run, "checkpoints", f"step-{step:08d}.h5"), "r") as file:
        text = bytes(file["blobs/position.yaml"][:]).decode()
    return dict(re.findall(r"^(\w+): *(.*)$", text, re.M))


def without():
    """A run of one micro-batch has none to look ahead to: as many runs as micro-batches."""
    settings = {**SMALL, "objectives.share": "false"}
    whole = place.trained(2, "whole", {**settings, "train.steps": 3})
    for step in range(1, 4):
        pieces = place.trained(2, "pieces", {**settings, "train.steps": step})
    different = first_difference(whole, pieces, range(1, 4))
    place.case(not different, "two ranks: the bits of runs that never look ahead", different)
    places = [position(run, step) for step in (1, 2) for run in ("whole", "pieces")]
    place.case(places[0] == places[1] and places[2] == places[3] and places[0]["seen"] == "4"
               and places[2]["seen"] == "8", "two ranks: their positions in the data", *places)


def stopped():
    """Between updates a batch is ahead. What is saved there does not know it."""
    train_fixture.WEFT = GPU
    whole = place.trained(None, "halves", {**HALVES, "train.steps": 5})
    settings = {**HALVES, "train.steps": 1000, "checkpoint.every": 1000}
    for name, number, code in (("stopped", signal.SIGTERM, 75), ("killed", signal.SIGKILL, -9)):
        process = place.start(place.command(None, name, settings if code == 75 else {**settings, "checkpoint.every": 2}))
        place.wait_for_step(process, name, 2)
        os.kill(process.pid, number)
        result = place.finish(process)
        last = max(place.steps(name))
        if code == 75:
            seen = position(name, last)
            place.case(seen["seen"] == str(4 * last) and seen["micro_batches"] == str(2 * last),
                       "stopped: the position of the updates done", last, seen)
        steps = place.trained(None, name, {**HALVES, "train.steps": last + 1})
        different = first_difference(whole, steps, range(1, min(last + 2, 6)))
        place.case(result.code == code and not different, f"{name}: goes on as if nothing had been", result.code, different)


def errors_of(result):
    """What a run said of the bad row, without the time."""
    return [line[line.index("damaged-"):] for line in result.said.splitlines() if "damaged-00000.h5: " in line]


def bad_row():
    """Pictures whose bytes are damaged: the run of the micro-batch before one meets it, and says nothing."""
    shutil.copy(place.path("scenes-00000.h5"), place.path("damaged-00000.h5"))
    with h5py.File(place.path("damaged-00000.h5"), "r+") as file:
        for image in (4,): # update 6 meets it
            file["images/bytes"][int(file["images/offset"][image]) + 40] ^= 1
    for ranks, accumulate in ((None, 2), (2, 1)):
        settings = {**SMALL, "data.sets": '[{path: "damaged-*.h5"}]', "train.steps": 24,
                    "batch.accumulate": accumulate}
        found = []
        for device, program in (("cpu", CPU), ("cuda", GPU)):
            train_fixture.WEFT = program
            run = f"bad-{device}-{ranks}-{accumulate}"
            result = place.train(ranks, run, {**settings, "train.device": device})
            steps = place.steps(run)
            names = sorted(os.listdir(place.path(run, "checkpoints"))) if steps else []
            found.append(((result.code, errors_of(result), max(steps, default=0), names), steps, result.said))
        (cpu, cpu_steps, _), (cuda, cuda_steps, said) = found
        name = f"{ranks or 1} ranks, {accumulate} micro-batches"
        place.case(cpu[0] not in (0, None) and cpu[1] and cpu[2] > 0 and cpu == cuda,
                   f"a bad row: told as on the CPU, after update {cpu[2]} ({name})", cpu, cuda, said)
        error = largest_error(cpu_steps, cuda_steps, range(1, cpu[2] + 1))
        place.case(error < 1e-3, f"and the updates before are those of the CPU (to {error:.1e})")
    train_fixture.WEFT = GPU


train_fixture.WEFT = GPU
without()
stopped()
bad_row()
place.end()
