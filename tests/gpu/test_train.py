"""weft train on a GPU: the samples, masks and losses of the CPU; bf16 beside f32 over 100 steps; runs that go on from
one device on the other; the same bits twice.   needs=cuda timeout=600
"""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "launch"))
from train_fixture import Place, first_difference, largest_error  # noqa: E402

place = Place()
BASE = {
    "batch.global": 8, "checkpoint.every": 5, "optimizer.ema_decay": 0.9,
    "objectives.list": "[{type: mlm}, {type: itc, mode: fiber, queue: 8}, {type: itm}]",
}


def trained(device, run, steps, **settings):
    return place.trained(None, run, {**BASE, "train.device": device, "train.steps": steps, **settings})


def mean_loss(steps, first, last):
    return sum(steps[i]["losses"]["loss"] for i in range(first, last + 1)) / (last - first + 1)


cpu = trained("cpu", "cpu", 10)
cuda = trained("cuda", "cuda", 10)
error = largest_error(cpu, cuda, range(1, 11))
place.case(error < 1e-3, f"the samples, masks and losses of the CPU in f32 (to {error:.1e})", cpu, cuda)
again = trained("cuda", "again", 10)
difference = first_difference(cuda, again, range(1, 11))
place.case(not difference, "the same bits twice", difference)

# Each goes on where it was, and on the other device.
whole = trained("cpu", "cpu", 15)
crossed = trained("cpu", "cuda", 15)
error = largest_error(whole, crossed, range(11, 16))
place.case(error < 5e-3, f"a run of the GPU goes on on the CPU (to {error:.1e})", whole, crossed)
back = trained("cuda", "cpu", 20)
stayed = trained("cpu", "cuda", 20)
error = largest_error(back, stayed, range(16, 21))
place.case(error < 5e-3, f"a run of the CPU goes on on the GPU (to {error:.1e})", back, stayed)

# 100 steps in bf16 and in f32: curves that stay together.
f32 = trained("cpu", "f32", 100)
bf16 = trained("cuda", "bf16", 100, **{"train.precision": "bf16"})
for first in (1, 41, 81):
    a, b = mean_loss(f32, first, first + 19), mean_loss(bf16, first, first + 19)
    place.case(abs(a - b) < 0.03 * a, f"steps {first} to {first + 19}: {a:.4f} in f32, {b:.4f} in bf16")
place.case(mean_loss(bf16, 81, 100) < 0.9 * mean_loss(bf16, 1, 20), "and the loss falls")
place.end()
