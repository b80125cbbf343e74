"""weft train --device cuda, with the emulated GPU: the samples, masks and losses of the CPU; a run that goes on from one
device on the other; and what is refused.   timeout=300
asan=no (a sanitizer takes minutes here, and sees the same code in test_cuda_training)
"""

import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "launch"))
import train_fixture  # noqa: E402
from train_fixture import BUILD, Place, largest_error  # noqa: E402

CPU = train_fixture.WEFT
GPU = os.path.join(BUILD, "emulated", "weft")
place = Place()


def trained(device, run, settings, options=()):
    train_fixture.WEFT = GPU if device == "cuda" else CPU
    return place.trained(None, run, {**settings, "train.device": device}, *options)


def refused(name, part, environment):
    train_fixture.WEFT = GPU
    place.environment.update(environment)
    process = place.start(place.command(None, "refused", {"train.device": "cuda", **SMALL}))
    result = place.finish(process)
    for key in environment:
        del place.environment[key]
    place.case(result.code not in (0, None) and part in result.said, name, result.code, result.said)


SMALL = {
    "batch.global": 4, "train.steps": 2, "checkpoint.every": 1, "optimizer.ema_decay": 0.9,
    "objectives.list": "[{type: mlm}, {type: itc, mode: fiber, queue: 8}, {type: itm}]",
}

if not os.access(GPU, os.X_OK):
    place.skip("weft train --device cuda", f"no {GPU}")
    place.end()
steps = 2
cpu = trained("cpu", "cpu", SMALL)
cuda = trained("cuda", "cuda", SMALL)
error = largest_error(cpu, cuda, range(1, steps + 1))
place.case(error < 1e-4, f"the samples, masks and losses of the CPU (to {error:.1e})", cpu, cuda)
further = {**SMALL, "train.steps": 3}
whole = trained("cpu", "cpu", further)
mixed = trained("cuda", "cuda", further)
error = largest_error(whole, mixed, [3])
place.case(error < 1e-3, f"a run goes on (to {error:.1e})", whole, mixed)
crossed = trained("cpu", "cuda", {**SMALL, "train.steps": 4})
again = trained("cuda", "cpu", {**SMALL, "train.steps": 4})
error = largest_error(crossed, again, [4])
place.case(error < 1e-3, f"on the other device too (to {error:.1e})", crossed, again)

refused("no driver", "no NVIDIA driver on this machine", {"WEFT_EMULATED_DRIVER": "0"})
refused("an old driver", "speaks CUDA 12.4, older than the 13.0", {"WEFT_EMULATED_DRIVER": "12040"})
refused("no GPU", "no GPU is visible to this process", {"WEFT_EMULATED_DEVICES": "0"})
refused("no bf16", "compute capability 7.5; bf16 needs 8.0", {"WEFT_EMULATED_CAPABILITY": "75"})
refused("no code", "capability 9.5, which this weft was not built for", {"WEFT_EMULATED_CAPABILITY": "95"})
refused("out of memory", "not one of its 4 samples would fit", {"WEFT_EMULATED_MEMORY": "1"})
refused("a GPU that fails in an update", "GPU 0, emulated GPU: CUDA: ", {"WEFT_EMULATED_FAILURE": "adamw_kernel"})
folder = place.path("refused", "checkpoints")
saved = os.listdir(folder) if os.path.exists(folder) else []
place.case(not any(name.endswith(".h5") for name in saved), "nothing is saved of it", saved)
for capability, part in (("120", "12.0 (its driver compiles the kernels"), ("95", "which this weft was not built for")):
    said = subprocess.run([GPU, "doctor"], env={**os.environ, "WEFT_EMULATED_CAPABILITY": capability},
                          stdout=subprocess.PIPE, text=True, timeout=100).stdout
    place.case(part in said, f"weft doctor on compute capability {capability}", said)
# The program itself: built without CUDA, or with it on a machine without a GPU.
if os.path.exists("/dev/nvidia0"):
    place.skip("the program without a GPU", "this machine has one")
else:
    train_fixture.WEFT = CPU
    result = place.train(None, "refused", {"train.device": "cuda", **SMALL})
    known = ("built without CUDA", "no NVIDIA driver", "no GPU is visible")
    place.case(result.code not in (0, None) and any(part in result.said for part in known),
               "the program without a GPU says so", result.code, result.said)
place.end()
