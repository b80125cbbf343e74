"""Evaluation in training: stopped by signals it ends at its next batch on all ranks, and is made
first when the run goes on; one that fails at the end ends all ranks with one message. And where the
time of steps goes.   timeout=120 alone=yes
"""

import json
import os
import signal
import time

from train_fixture import Place

place = Place()
place.weft("pack", "scenes", "--size", "64", "--count", "300", "--captions", "2", "--split", "test",
           "-q", "-o", "many-%05d.h5")
place.weft("pack", "scenes", "--size", "64", "--count", "9", "--split", "val", "-q", "-o",
           "few-%05d.h5")
# One pair at a time: some ten seconds.
SLOW = {"train.steps": 4, "eval.every": 2, "eval.batch": 1,
        "data.eval_sets": '[{path: "many-*.h5"}]'}
FAST = {"train.steps": 4, "eval.every": 2, "data.eval_sets": '[{path: "few-*.h5"}]'}


def result(run, step):
    return os.path.exists(place.path(run, "eval", f"step-{step:08d}.json"))


def kinds(run):
    """What was logged, in order: [("step", 1), ("checkpoint", 1), ...]"""
    return [(line["kind"], line["step"]) for line in place.lines(run)]


def in_evaluation(run, step, settings):
    """A run in the evaluation of `step`."""
    process = place.start(place.command(2, run, settings))
    place.wait_for_step(process, run, step)
    ranks = place.ranks_of(process)
    time.sleep(0.5)
    return process, ranks


def stopped(name, number, code, step):
    """The signal reaches rank 1 alone. The run goes on with fewer pictures to evaluate on."""
    run = name.replace(" ", "-")
    settings = {**SLOW, "eval.every": 2 if step == 2 else 0}
    process, ranks = in_evaluation(run, step, settings)
    begin = time.time()
    os.kill(ranks[1], number)
    done = place.finish(process)
    took = time.time() - begin
    last = place.lines(run)[-1]
    place.case(done.code == code and last["kind"] == "end" and last["exit_code"] == code
               and took < 3 and not result(run, step),
               f"{name}: ends at once with {code}, without a result", done.code, took, done.said)
    saved = f"{run}/checkpoints/step-{step:08d}.h5"
    place.case(os.path.exists(place.path(saved)) and ("checkpoint", step) in kinds(run),
               f"{name}: saved", kinds(run))
    before = len(place.lines(run))
    again = place.train(2, run, {**FAST, "eval.every": settings["eval.every"]})
    wanted = [("start", 2), ("eval", 2), ("step", 3), ("step", 4), ("checkpoint", 4), ("eval", 4),
              ("end", 4)] if step == 2 else [("start", 4), ("eval", 4), ("end", 4)]
    place.case(again.code == 0 and kinds(run)[before:] == wanted and result(run, step),
               f"{name}: goes on with the evaluation", kinds(run)[before:], again.said)


def killed():
    """The last checkpoint is that of the evaluation's update."""
    settings = {**SLOW, "checkpoint.every": 2}
    process, _ = in_evaluation("killed", 2, settings)
    while process.poll() is None and "latest" not in os.listdir(place.path("killed/checkpoints")):
        time.sleep(0.02)
    place.kill(process)
    place.finish(process)
    place.case(not result("killed", 2), "kill -9 in an evaluation leaves no result")
    process = place.start(place.command(2, "killed", settings))
    while process.poll() is None and kinds("killed")[-1] != ("start", 2):
        time.sleep(0.02)
    ranks = place.ranks_of(process)
    time.sleep(0.5)
    before = place.contents("killed/checkpoints")
    os.kill(ranks[0], signal.SIGTERM)
    done = place.finish(process)
    place.case(done.code == 75 and not result("killed", 2)
               and kinds("killed")[-2:] == [("start", 2), ("end", 2)]
               and place.contents("killed/checkpoints") == before,
               "the one that is made up for can be stopped too", kinds("killed"), done.said)
    again = place.train(2, "killed", {**FAST, "checkpoint.every": 2})
    after = kinds("killed")[-7:]
    place.case(again.code == 0 and after[:3] == [("start", 2), ("eval", 2), ("step", 3)]
               and result("killed", 2),
               "and it is made when the run goes on", after, again.said)
    before = place.tree("killed/eval")
    third = place.train(2, "killed", {**FAST, "checkpoint.every": 2})
    place.case(third.code == 0 and place.tree("killed/eval") == before
               and kinds("killed")[-2:] == [("start", 4), ("end", 4)],
               "a finished run is not evaluated again", third.said)
    place.case("the run is finished: 4 of 4 updates are done" in third.said,
               "and says that it is finished", third.said)
    plan = json.loads(place.weft("plan", "recipe.yaml", "--no-probe", "--json"))
    place.case(f"; {plan['parameters']['all']} parameters; the run" in third.said,
               "with its number of parameters", plan["parameters"], third.said)


def failed():
    """The parameters are spoiled by the first update, so no feature is finite."""
    settings = {**FAST, "train.steps": 2, "eval.every": 0, "optimizer.lr": "1e30"}
    done = place.train(3, "lost", settings)
    place.case(done.code == 1 and done.said.count("is not finite; the parameters are damaged") == 1
               and "MPI_ABORT" not in done.said and "error:" in done.said,
               "a last evaluation that fails: one message, exit code 1", done.code, done.said)
    last = place.lines("lost")[-1]
    place.case(last["kind"] == "end" and last["exit_code"] == 1 and "not finite" in last["reason"]
               and os.listdir(place.path("lost/checkpoints")) != [], "logged, and saved", last)
    again = place.train(1, "lost", {**settings, "data.eval_sets": "[]"})
    place.case(again.code == 0 and "update 2" in again.said, "the checkpoint is sound", again.said)


def parts_of(line):
    return {name: value for name, value in line["seconds"].items() if name != "step"}


def seconds():
    """Steps with evaluations and saves between them; one rank stands still for a while."""
    settings = {"train.steps": 60, "eval.every": 20, "checkpoint.every": 20,
                "data.eval_sets": FAST["data.eval_sets"]}
    process = place.start(place.command(2, "seconds", settings))
    place.wait_for_step(process, "seconds", 3)
    ranks = place.ranks_of(process)
    os.kill(ranks[1], signal.SIGSTOP)
    time.sleep(1.5)
    os.kill(ranks[1], signal.SIGCONT)
    done = place.finish(process)
    steps = place.steps("seconds")
    place.case(done.code == 0 and len(steps) == 60, "a run of 60 steps", done.said)
    wrong = [step for step, line in steps.items()
             if abs(sum(parts_of(line).values()) - line["seconds"]["step"])
             > 0.02 * line["seconds"]["step"]]
    place.case(not wrong, "the parts of each step are its whole", wrong)
    passed = steps[60]["time"] - steps[1]["time"]
    whole = sum(line["seconds"]["step"] for step, line in steps.items() if step > 1)
    place.case(abs(passed - whole) < 0.02 * passed + 0.005,
               "the steps are all the time between the first line and the last", passed, whole)
    evals = {line["step"]: line["seconds"] for line in place.lines("seconds")
             if line["kind"] == "eval"}
    place.case(all(0 < evals[step] <= steps[step + 1]["seconds"]["evaluate"] * 1.02 + 0.002
                   for step in (20, 40)) and evals[60] > 0,
               "evaluations count for the step after them", evals)
    place.case({step for step, line in steps.items() if line["seconds"]["evaluate"] > 0}
               == {21, 41}, "and for no other")
    place.case(all(steps[step + 1]["seconds"]["checkpoint"] > 0 for step in (20, 40)),
               "as do saves", [line["seconds"]["checkpoint"] for line in steps.values()])
    waited = max(line["seconds"]["communicate"] for line in steps.values())
    place.case(waited > 1.2 and all(line["seconds"]["compute"] < 0.7 for line in steps.values()),
               "waiting for a rank that stands still is communication", waited,
               max(line["seconds"]["compute"] for line in steps.values()))


stopped("SIGUSR1 in an evaluation", signal.SIGUSR1, 75, 2)
stopped("SIGINT in the last evaluation", signal.SIGINT, 130, 4)
killed()
failed()
seconds()
place.end()
