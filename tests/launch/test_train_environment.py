"""Training in good and bad environments: threads, instruction sets, launchers, wrong words.
timeout=60
"""

import subprocess

from train_fixture import SANITIZER, WEFT, Place

place = Place()


def train(name, code, text, environment, options=()):
    place.environment.update(environment)
    result = place.train(None, name.replace(" ", "-"), {"train.steps": 2}, options)
    for key in environment:
        del place.environment[key]
    place.environment["OMP_NUM_THREADS"] = "1"
    good = (result.code == code if code >= 0 else result.code != 0) and text in result.said
    place.case(good, name, f"exit {result.code}", result.said)


def say(name, code, text, *words):
    done = subprocess.run([WEFT, *words], capture_output=True, text=True, check=False)
    place.case(done.returncode == code and text in done.stderr, name, done.stderr)


train("two threads", 0, "2 threads each", {"OMP_NUM_THREADS": "2"})
train("one thread", 0, "1 threads each", {"OMP_NUM_THREADS": "1"})
train("a number of threads that is none", 2, "OMP_NUM_THREADS=many: set it to a number",
      {"OMP_NUM_THREADS": "many"})
train("alone where a launcher promised four", -1, "SLURM_NTASKS", {"SLURM_NTASKS": "4"})
if not SANITIZER:
    train("no AVX-512", 0, "finished", {"WEFT_ISA": "avx2"})
    train("scalar code", 0, "finished", {"WEFT_ISA": "scalar"})
say("an unknown option", 2, "unrecognized option", "train", "--frobnicate")
say("an unknown command", 2, "did you mean 'train'", "trian")
place.end()
