"""Values that are not finite: the message names rank, op and samples, the update is skipped, and
after train.max_skipped in a row the run stops with its checkpoints untouched.   timeout=120 alone=yes
"""

import os
import re

from train_fixture import Place

place = Place()
TABLE = "text_transformer.embeddings.word_embeddings.weight"
FOUND = re.compile(r"First value: rank (\d+): (\S+): (\w+): .* is -?(?:nan|inf).*; samples (\d+) to (\d+)")
START = {"train.init_from": "bad.safetensors", "train.init_allow": '["*"]'}


def warnings_of(run):
    return [line["text"] for line in place.lines(run) if line["kind"] == "warning"]


def a_weight(ranks, run, settings):
    """A weight of the last Swin stage but one is NaN."""
    place.write_weights("bad.safetensors", "vit_model.layers.2.blocks.1.norm1.bias", [64],
                        {5: float("nan")})
    result = place.train(ranks, run, {**START, "train.max_skipped": 1, **settings})
    told = warnings_of(run)
    found = FOUND.search(told[0]) if told else None
    place.case(
        len(told) == 2 and found and found.group(1) == "0"
        and found.group(2) == "vit_model.layers.2.blocks.1" and found.group(3) == "layer_norm"
        and "the parameter vit_model.layers.2.blocks.1.norm1.bias itself holds nan (element 5)"
        in told[0],
        f"{run}: op and parameter are named", told, result.said)
    place.case(result.code == 1 and "2 updates in a row had gradients that are not finite"
               in result.said and result.said.count("error: ") == 1,
               f"{run}: the second in a row stops the run, told once", result.code, result.said)
    last = place.lines(run)[-1]
    place.case(last["kind"] == "end" and last["exit_code"] == 1 and "in a row" in last["reason"],
               f"{run}: the log ends with the reason", last)


def a_token():
    """The vector of a rare token is NaN: the sample that has it is found in whichever rank and
    micro-batch it is, also where other ranks have the value by way of a gather. It is in the third
    update, and in the last of six parts of it."""
    place.write_weights("bad.safetensors", TABLE, [300, 32],
                        {294 * 32 + k: float("nan") for k in range(32)})
    seen = {}
    for name, ranks, accumulate in (("one", None, 6), ("two", 2, 3), ("three", 3, 2)):
        result = place.train(ranks, f"token-{name}", {
            **START, "train.max_skipped": 0, "batch.accumulate": accumulate})
        told = warnings_of(f"token-{name}")
        found = FOUND.search(told[0]) if told else None
        if not found or result.code != 1:
            place.case(False, f"{name}: the samples are named", told, result.said)
            continue
        first = int(found.group(4))
        rank = first // 2 % (ranks or 1)
        place.case(int(found.group(1)) == rank and int(found.group(5)) == first + 1,
                   f"{name} rank(s): rank {rank} is named with its two samples", told)
        place.case(found.group(2) == "text_transformer.embeddings",
                   f"{name} rank(s): so is the place", told)
        seen[name] = first
        if name == "one":
            step = [line["step"] for line in place.lines("token-one") if line["kind"] == "step"]
            update = first // 12 + 1
            place.case(step == list(range(1, update)), "the updates before it were made", step)
    place.case(len(set(seen.values())) == 1 and len(seen) == 3 and seen["one"] % 12 == 10,
               "all layouts name the same samples", seen)


def blow_up():
    """A learning rate that is far too high, after a checkpoint: the checkpoint stays as it was."""
    settings = {"train.steps": 10, "checkpoint.every": 5, "train.max_skipped": 2}
    place.trained(2, "high", settings)
    before = place.contents("high/checkpoints")
    result = place.train(2, "high", {**settings, "train.steps": 20, "optimizer.lr": "1e30",
                                     "optimizer.clip_norm": 0}, ["--allow-changes"])
    place.case(result.code == 1 and "in a row" in result.said, "too high a learning rate stops",
               result.code, result.said)
    place.case(place.contents("high/checkpoints") == before, "the checkpoints are as before",
               sorted(os.listdir(place.path("high/checkpoints"))))


def in_a_row():
    """The count goes on where a run does: two updates were skipped before, two more are allowed."""
    place.write_weights("bad.safetensors", "vit_model.layers.2.blocks.1.norm1.bias", [64],
                        {5: float("nan")})
    settings = {**START, "train.max_skipped": 3, "checkpoint.every": 1}
    place.trained(2, "row", {**settings, "train.steps": 2})
    result = place.train(1, "row", {**settings, "train.steps": 20})
    starts = [line["step"] for line in place.lines("row") if line["kind"] == "start"]
    place.case(result.code == 1 and starts == [0, 2] and "4 updates in a row" in result.said
               and "the last at update 4" in result.said,
               "skipped updates are counted across a restart", starts, result.said)


def queue():
    """Features that are not finite do not enter the queue: what comes after is sound again."""
    place.write_weights("bad.safetensors", TABLE, [300, 32],
                        {294 * 32 + k: float("nan") for k in range(32)})
    settings = {**START, "train.steps": 16, "train.max_skipped": 16, "model.num_fuse": 1,
                "objectives.list": "[{type: itc, mode: fiber, queue: 24}, {type: mlm}]"}
    result = place.train(2, "queue", settings)
    losses = [float(line["losses"]["loss"]) for line in place.steps("queue").values()]
    bad = [loss != loss for loss in losses]
    place.case(result.code == 0 and any(bad) and not all(bad[bad.index(True):]),
               "the queue stays finite after a bad update", losses, result.said)


a_weight(2, "two", {})
a_weight(None, "accumulated", {"batch.accumulate": 3, "train.precision": "bf16"})
a_token()
blow_up()
in_a_row()
queue()
place.end()
