"""kill -9 at any moment, and checkpoints that are damaged, deleted or cannot be written: nothing but
the steps since the last checkpoint is lost, and what is done again gives the same bits.   timeout=120 alone=yes
"""

import os
import random
import resource
import shutil
import signal
import time

from train_fixture import Place, SANITIZER, first_difference

place = Place()
EVERY = {"checkpoint.every": 2, "checkpoint.keep": 3}
KILLS = 6 if SANITIZER else 20


def half_written(run):
    folder = place.path(run, "checkpoints")
    return os.path.isdir(folder) and any(n.endswith(".tmp") for n in os.listdir(folder))


def kill_once(number):
    """By turns: as it starts, inside the write of a checkpoint, twice anywhere in its updates.
    Whether it was alive until then, and a half-written file was left."""
    lines = len(place.lines("killed"))
    process = place.start(place.command(2, "killed", {**EVERY, "train.steps": 100000}))
    if number % 4 == 0:
        time.sleep(random.uniform(0.2, 0.8))
    else:
        lines += random.randint(2, 8)
        while process.poll() is None and len(place.lines("killed")) < lines:
            time.sleep(0.01)
    if number % 4 == 1:
        while process.poll() is None and not half_written("killed"):
            pass
    elif number % 4 > 1:
        time.sleep(random.uniform(0, 0.1))
    alive = process.poll() is None
    place.kill(process)
    process.wait()
    process.stdout.close()
    return alive, half_written("killed")


def kills():
    """The whole job each time, mpirun included, as when the machine goes down."""
    random.seed(4)
    outcomes = [kill_once(number) for number in range(KILLS)]
    place.case(all(alive for alive, _ in outcomes), f"killed {KILLS} times", outcomes)
    place.case(any(torn for _, torn in outcomes), "also inside the write of a checkpoint", outcomes)
    last = max(place.steps("killed"))
    settings = {**EVERY, "train.steps": last + 3}
    survived = place.trained(2, "killed", settings)
    whole = place.trained(2, "whole", {**settings, "checkpoint.every": 1000})
    different = first_difference(whole, survived, range(1, last + 4))
    place.case(not different, f"all {last + 3} steps as without the kills, bit for bit", different)
    names = os.listdir(place.path("killed", "checkpoints"))
    place.case(len(names) == 4 and "latest" in names, "what dead writers left is removed", names)


def newest(run):
    folder = place.path(run, "checkpoints")
    return os.path.join(folder, max(n for n in os.listdir(folder) if n.startswith("step-")))


def flip_byte(path):
    with open(path, "r+b") as file:
        file.seek(os.path.getsize(path) // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))


def damage():
    """Each is told, the newest sound checkpoint is taken, and the run ends as it would have."""
    settings = {**EVERY, "train.steps": 10}
    whole = place.trained(2, "sound", settings)
    cases = (
        ("a flipped byte", flip_byte, 8, "00000010.h5"),
        ("a cut-off file", lambda path: os.truncate(path, 100000), 8, "00000010.h5"),
        ("an empty file", lambda path: os.truncate(path, 0), 8, "00000010.h5"),
        ("no `latest`", lambda path: os.remove(os.path.join(os.path.dirname(path), "latest")), 10,
         "resuming from"),
    )
    for name, harm, step, message in cases:
        run = name.replace(" ", "-").replace("`", "")
        shutil.copytree(place.path("sound"), place.path(run))
        harm(newest(run))
        result = place.train(2, run, {**settings, "train.steps": 12})
        begun = [line["step"] for line in place.lines(run) if line["kind"] == "start"][-1]
        place.case(result.code == 0 and begun == step and message in result.said,
                   f"{name}: resumed from update {step}", result.code, begun, result.said)
        different = first_difference(whole, place.steps(run), range(1, 11))
        place.case(not different, f"{name}: the same steps again", different)
    shutil.copytree(place.path("sound"), place.path("all"))
    folder = place.path("all", "checkpoints")
    for file in os.listdir(folder):
        if file.startswith("step-"):
            flip_byte(os.path.join(folder, file))
    before = place.contents("all/checkpoints")
    result = place.train(2, "all", settings)
    place.case(result.code == 1 and result.said.count("error: ") == 1
               and place.contents("all/checkpoints") == before,
               "all damaged: refused, nothing touched", result.code, result.said)


def disk_full():
    """A limit on the size of files is met like a full disk: in the middle of a write."""
    def warnings():
        return [line for line in place.lines("full") if line["kind"] == "warning"]
    every = {"checkpoint.every": 10}
    process = place.start(place.command(2, "full", {**every, "train.steps": 100000}))
    place.wait_for_step(process, "full", 11)  # well before the next one: ranks look once, at begin
    ranks = place.ranks_of(process)
    for rank in ranks:
        resource.prlimit(rank, resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
    while process.poll() is None and not warnings():
        time.sleep(0.02)
    place.wait_for_step(process, "full", 23)
    place.case(process.poll() is None and "checkpoints/step-" in warnings()[0]["text"],
               "a checkpoint that cannot be written is told, and training goes on", warnings())
    before = place.contents("full/checkpoints")
    before = {name: data for name, data in before.items() if not name.endswith(".tmp")}
    os.kill(ranks[1], signal.SIGUSR1)
    result = place.finish(process)
    place.case(result.code == 1 and result.said.count("error: ") == 1, "the last one fails the run",
               result.code, result.said)
    place.case(place.contents("full/checkpoints") == before, "the former ones are untouched",
               os.listdir(place.path("full/checkpoints")))
    last = max(place.steps("full"))
    steps = place.trained(2, "full", {**every, "train.steps": last})
    whole = place.steps("whole")
    different = first_difference(whole, steps, range(1, min(last, max(whole)) + 1))
    place.case(not different, "with room it goes on, bit for bit", different)


def read_only():
    name = "a folder that cannot be written to is refused"
    if os.geteuid() == 0:
        place.skip(name, "root may write everywhere")
        return
    os.mkdir(place.path("closed"), 0o555)
    result = place.train(2, "closed/run", {})
    place.case(result.code == 1 and "set `run` to a place that can be written" in result.said
               and result.said.count("error: ") == 1, name, result.code, result.said)
    place.trained(2, "once", {"train.steps": 2})
    before = place.contents("once/checkpoints")
    os.chmod(place.path("once", "checkpoints"), 0o555)
    result = place.train(2, "once", {"train.steps": 4})
    os.chmod(place.path("once", "checkpoints"), 0o755)
    place.case(result.code == 1 and result.said.count("error: ") == 1
               and place.contents("once/checkpoints") == before,
               "so are checkpoints in one", result.code, result.said)


kills()
damage()
disk_full()
read_only()
place.end()
