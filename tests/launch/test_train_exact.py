"""A run is a function of its recipe: the same bits again, the same samples, masks, negatives and
losses on any number of ranks, whole or sharded, in one piece or accumulated.   timeout=120 alone=yes
"""

import shutil

from train_fixture import Place, SANITIZER, first_difference, largest_error

place = Place()


def runs_are_equal():
    settings = {"train.steps": 12}
    a = place.trained(2, "first", settings)
    b = place.trained(2, "second", settings)
    different = first_difference(a, b, range(1, 13))
    place.case(not different, "two runs are equal bit for bit", different)
    draws = {line["draws"] for line in a.values()}
    place.case(len(draws) == 12, "every update draws anew", draws)
    sharded = place.trained(2, "sharded", {**settings, "optimizer.shard": "true"})
    different = first_difference(a, sharded, range(1, 13))
    place.case(not different, "sharded optimiser state changes no bit", different)
    other = place.trained(None, "seed", {"train.steps": 2, "train.seed": 1})
    place.case(other[1]["draws"] != a[1]["draws"], "another seed draws something else")


def ranks_change():
    whole = place.trained(2, "whole", {"train.steps": 50})
    for ranks, steps in ((2, 12), (None, 25), (3, 38), (2, 50)):
        pieces = place.trained(ranks, "pieces", {"train.steps": steps})
    error = largest_error(whole, pieces, range(1, 51))
    place.case(error < 1e-5, f"2, 1, 3, 2 ranks: samples, masks, negatives; losses to {error:.1e}")
    starts = [line["ranks"] for line in place.lines("pieces") if line["kind"] == "start"]
    place.case(starts == [2, 1, 3, 2], "the pieces ran on these ranks", starts)


def pieces_are_a_whole():
    """With everything that a run can have of state: the checkpoint at the end is the same file."""
    place.weft("pack", "scenes", "--size", "64", "--count", "12", "--split", "test", "-q", "-o",
               "held-%05d.h5")
    settings = {
        "train.precision": "bf16", "optimizer.ema_decay": 0.9, "optimizer.shard": "true",
        "batch.accumulate": 2, "objectives.share": "false", "model.dropout": 0.1,
        "model.drop_path": 0.1, "train.recompute": "blocks", "checkpoint.every": 3,
        "objectives.list": "[{type: mlm}, {type: itc, mode: fiber, queue: 20}, {type: itm}]",
    }
    evaluated = {"data.eval_sets": "[{path: held-*.h5}]", "eval.every": 2, "eval.batch": 4}
    whole = place.trained(2, "state", {**settings, "train.steps": 9})
    file = "state/checkpoints/step-00000009.h5"
    with open(place.path(file), "rb") as content:
        expected = content.read()
    shutil.rmtree(place.path("state"))
    for steps in (2, 7):
        place.trained(2, "state", {**settings, **evaluated, "train.steps": steps})
    pieces = place.trained(2, "state", {**settings, "train.steps": 9})
    different = first_difference(whole, pieces, range(1, 10))
    place.case(not different, "bf16, moving average, queue, dropout, shards: resumed bit for bit",
               different)
    with open(place.path(file), "rb") as content:
        place.case(content.read() == expected, "the checkpoint at the end is the same to the byte")
    kinds = [line["kind"] for line in place.lines("state")]
    place.case(kinds.count("eval") >= 4, "evaluations in between change nothing", kinds)


def accumulation():
    """Masked language modelling is a mean over the masked tokens of a micro-batch. Here all texts
    are cut to 8 tokens, of which all 6 inner ones are masked, so that means of means are means."""
    settings = {
        "train.steps": 8,
        "objectives.list": "[{type: mlm, probability: 0.9999999}]",
        "model.max_text_len": 8,
        "data.max_text_len": 8,
    }
    once = place.trained(None, "once", settings)
    twice = place.trained(None, "twice", {**settings, "batch.accumulate": 2})
    error = largest_error(once, twice, range(1, 9))
    place.case(error < 1e-5, f"two halves are one whole: {error:.1e}")
    both = place.trained(2, "both", {**settings, "batch.accumulate": 2, "optimizer.shard": "true"})
    error = largest_error(once, both, range(1, 9))
    place.case(error < 1e-5, f"also on two ranks, sharded: {error:.1e}")


def low_precision():
    settings = {"train.steps": 30, "train.precision": "bf16"}
    a = place.trained(None, "bf16", settings)
    loss = [float(a[step]["losses"]["loss"]) for step in sorted(a)]
    early, late = sum(loss[:5]) / 5, sum(loss[-5:]) / 5
    place.case(late < 0.9 * early, f"bf16 trains: {early:.3f} to {late:.3f}")
    b = place.trained(None, "bf16-again", {**settings, "train.steps": 10})
    different = first_difference(a, b, range(1, 11))
    place.case(not different, "bf16 is equal bit for bit", different)


def dropout():
    settings = {"train.steps": 6, "model.dropout": 0.2, "model.drop_path": 0.2}
    for share in ("true", "false") if not SANITIZER else ("false",):
        one = place.trained(None, f"one-{share}", {**settings, "objectives.share": share})
        two = place.trained(2, f"two-{share}", {**settings, "objectives.share": share})
        error = largest_error(one, two, range(1, 7))
        place.case(error < 1e-5, f"dropout, share {share}: one and two ranks to {error:.1e}")
        again = place.trained(2, f"again-{share}", {**settings, "objectives.share": share})
        different = first_difference(two, again, range(1, 7))
        place.case(not different, f"dropout, share {share}: equal bit for bit", different)
    if SANITIZER:
        return
    apart = largest_error(place.steps("two-true"), place.steps("two-false"), [1])
    place.case(apart > 1e-4, "objectives that do not share draw their own dropout", apart)


runs_are_equal()
ranks_change()
pieces_are_a_whole()
accumulation()
low_precision()
dropout()
place.end()
