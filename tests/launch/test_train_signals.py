"""Signals and dying ranks: all ranks save at the same update and end with a code that says why, and
the run goes on from there bit for bit.   timeout=120 alone=yes
"""

import os
import re
import signal
import time

from train_fixture import Place, SANITIZER, first_difference

place = Place()
STEPS = {"train.steps": 100000, "checkpoint.every": 1000}
REFERENCE = 40 if not SANITIZER else 20


def begun(run, ranks=2, settings=None, steps=3):
    """A run in its first steps, with the process numbers of its ranks."""
    process = place.start(place.command(ranks, run, settings or STEPS))
    place.wait_for_step(process, run, steps)
    return process, place.ranks_of(process) if ranks else [process.pid]


def checkpoints(run):
    names = os.listdir(place.path(run, "checkpoints"))
    return sorted(int(name[5:13]) for name in names if re.fullmatch(r"step-\d{8}\.h5", name))


def saved(run, code):
    """Whether the log of a run ends with `code`, at the step of its newest checkpoint; that step."""
    last = place.lines(run)[-1]
    good = last["kind"] == "end" and last["exit_code"] == code
    return good and checkpoints(run)[-1:] == [last["step"]], last["step"]


def stop(name, number, whom, code, reference):
    """`number` goes to one rank, or to mpirun."""
    run = name.replace(" ", "-")
    process, ranks = begun(run)
    os.kill(process.pid if whom is None else ranks[whom], number)
    result = place.finish(process)
    good, step = saved(run, code)
    place.case(good and result.code == code, f"{name}: saved, exit code {code}", result.code,
               place.lines(run)[-1], checkpoints(run), result.said)
    steps = place.trained(2, run, {**STEPS, "train.steps": step + 3})
    starts = [line["step"] for line in place.lines(run) if line["kind"] == "start"]
    place.case(starts == [0, step], f"{name}: goes on from update {step}", starts)
    last = min(step + 3, REFERENCE)
    different = first_difference(reference, steps, range(1, last + 1))
    place.case(not different, f"{name}: as if nothing had been", different)


def alone():
    """Without mpirun, and before the first update."""
    process = place.start(place.command(None, "alone", STEPS))
    while process.poll() is None and not place.lines("alone"):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGTERM)
    result = place.finish(process)
    good, step = saved("alone", 75)
    place.case(good and result.code == 75 and step >= 1, "one rank, as it begins: saved, 75",
               result.code, result.said)


def early():
    """Signals that are there when the program starts: held back by who starts it, until it says how
    it takes them."""
    for name, number, code in (("SIGUSR1", signal.SIGUSR1, 75), ("SIGTERM", signal.SIGTERM, 75),
                               ("SIGINT", signal.SIGINT, 130)):
        run = f"early-{name}"
        signal.pthread_sigmask(signal.SIG_BLOCK, {number})
        process = place.start(place.command(None, run, STEPS))
        os.kill(process.pid, number)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        result = place.finish(process)
        good, step = saved(run, code)
        place.case(good and result.code == code and step == 1,
                   f"{name} before main: one update, saved, {code}", result.code, result.said)


def starting():
    """SIGUSR1 as soon as the program has handlers, which is before MPI starts."""
    process = place.start(place.command(None, "starting", STEPS))
    caught = 0
    while process.poll() is None and not caught >> (signal.SIGUSR1 - 1) & 1:
        with open(f"/proc/{process.pid}/status", encoding="utf-8") as file:
            caught = int(file.read().split("SigCgt:")[1].split()[0], 16)
    maps = ""
    with open(f"/proc/{process.pid}/maps", encoding="utf-8") as file:
        maps = file.read()
    os.kill(process.pid, signal.SIGUSR1)
    result = place.finish(process)
    good, step = saved("starting", 75)
    place.case(good and result.code == 75 and step == 1, "SIGUSR1 while MPI starts: saved, 75",
               result.code, result.said)
    place.case("mca_btl" not in maps, "handlers are there before MPI's plugins")


def interrupted_twice():
    """The second SIGINT does not wait: here the other rank stands still, so nothing can be saved."""
    process, ranks = begun("twice")
    os.kill(ranks[0], signal.SIGSTOP)
    time.sleep(0.3)
    os.kill(ranks[1], signal.SIGINT)
    time.sleep(0.3)
    place.case(process.poll() is None, "SIGINT once waits for the end of the update")
    os.kill(ranks[1], signal.SIGINT)
    begin = time.time()
    result = place.finish(process, 30)
    place.case(result.code == 130 and time.time() - begin < 10,
               "SIGINT twice ends at once, code 130", result.code, result.said)
    place.case(checkpoints("twice") == [], "nothing half-written is there")


def killed():
    process, ranks = begun("killed", 3, {**STEPS, "checkpoint.every": 2}, 6)
    os.kill(ranks[1], signal.SIGKILL)
    begin = time.time()
    result = place.finish(process, 30)
    place.case(result.code not in (0, 75, 124) and time.time() - begin < 10,
               "kill -9 of one rank ends the others within seconds", result.code, result.said)
    while any(place.is_alive(rank) for rank in ranks) and time.time() - begin < 20:
        time.sleep(0.05)
    place.case(not any(place.is_alive(rank) for rank in ranks), "no rank is left", ranks)
    again = place.train(3, "killed", {**STEPS, "checkpoint.every": 2, "train.steps": 12})
    starts = [line["step"] for line in place.lines("killed") if line["kind"] == "start"]
    place.case(again.code == 0 and len(starts) == 2 and starts[1] >= 4 and starts[1] % 2 == 0,
               "the run goes on from its checkpoint", starts, again.said)


reference = place.trained(2, "reference", {**STEPS, "train.steps": REFERENCE})
stop("SIGTERM to rank 1", signal.SIGTERM, 1, 75, reference)
stop("SIGUSR1 to mpirun", signal.SIGUSR1, None, 75, reference)
if not SANITIZER:
    stop("SIGUSR1 to rank 0", signal.SIGUSR1, 0, 75, reference)
    stop("SIGINT to rank 1", signal.SIGINT, 1, 130, reference)
alone()
early()
starting()
interrupted_twice()
killed()
place.end()
