"""For the tests of weft train: a small data set, a small recipe, runs of the binary, and TAP lines.

Everything lies in a temporary folder that is removed at the end. Needs the binary, and mpirun for
more than one rank.
"""

import json
import math
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

BUILD = os.path.abspath(os.environ.get("WEFT_BUILD", "build/release"))
WEFT = os.path.join(BUILD, "weft")
SANITIZER = "WEFT_SANITIZER" in os.environ

RECIPE = """\
run: run
model:
  family: fiber
  image_size: 32
  embed_dim: 16
  depths: [1, 1, 2, 1]
  heads: [1, 1, 2, 2]
  window: 2
  text_layers: 2
  hidden: 32
  text_heads: 2
  ffn: 64
  vocab: 300
  max_text_len: 16
  positions: 18
  num_fuse: 2
  dropout: 0
  drop_path: 0
  init_std: 0.1
data:
  sets: [{path: "scenes-*.h5"}]
  image_size: 32
  max_text_len: 16
tokenizer: {path: tokenizer}
objectives:
  list: [{type: mlm}, {type: itc}, {type: itm}]
batch: {global: 12}
optimizer: {lr: 1e-3, clip_norm: 1, schedule: {kind: constant, warmup: 5}}
train: {steps: 20}
checkpoint: {every: 10}
"""

ENVIRONMENT = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "OMPI_MCA_hwloc_base_binding_policy": "none",
    "OMPI_MCA_btl_vader_single_copy_mechanism": "none",
    "OMPI_MCA_mpi_yield_when_idle": "1",
    "OMP_WAIT_POLICY": "passive",
    "OMP_NUM_THREADS": "1",
}


class Result:
    def __init__(self, code, said):
        self.code = code
        self.said = said


class Place:
    """A folder with packed scenes, a tokenizer and recipe.yaml; and the cases of one test."""

    def __init__(self):
        self.number = 0
        self.failed = 0
        self.started = []
        signal.signal(signal.SIGTERM, self.give_up)
        self.folder = tempfile.mkdtemp(prefix="weft-train-", dir=os.environ.get("TMPDIR"))
        self.environment = dict(os.environ, **ENVIRONMENT)
        # Shared memory of jobs that are killed goes with the folder.
        self.environment["OMPI_MCA_btl_vader_backing_directory"] = self.folder
        if not os.access(WEFT, os.X_OK):
            self.close()
            print(f"ok 1 - weft train # SKIP no {WEFT}\n1..1")
            sys.exit(0)
        self.write("recipe.yaml", RECIPE)
        self.weft("pack", "scenes", "--size", "64", "--count", "96", "-q", "-o", "scenes-%05d.h5")
        self.weft("tokenizer", "train", "--vocab-size", "300", "-o", "tokenizer", "scenes-00000.h5")

    def close(self):
        shutil.rmtree(self.folder, ignore_errors=True)

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)

    def weft(self, *arguments):
        done = subprocess.run([WEFT, *arguments], cwd=self.folder, env=self.environment,
                              capture_output=True, text=True, check=False)
        if done.returncode != 0:
            self.close()
            sys.exit(f"Bail out! weft {' '.join(arguments)}: {done.stderr}")
        return done.stdout

    def contents(self, folder):
        """{name: bytes} of the files in a folder."""
        found = {}
        for name in sorted(os.listdir(self.path(folder))):
            with open(self.path(folder, name), "rb") as file:
                found[name] = file.read()
        return found

    def tree(self, folder):
        """{path: bytes} of all files below a folder but its lock; {} when it is not there."""
        found = {}
        for where, _, names in os.walk(self.path(folder)):
            for name in names:
                if name != "lock":
                    path = os.path.join(where, name)
                    with open(path, "rb") as file:
                        found[os.path.relpath(path, self.path(folder))] = file.read()
        return found

    def write_weights(self, path, name, shape, values):
        """A safetensors file of one tensor: 0.01, and `values` {element: value}."""
        count = math.prod(shape)
        numbers = [values.get(i, 0.01) for i in range(count)]
        header = json.dumps({name: {"dtype": "F32", "shape": shape,
                                    "data_offsets": [0, 4 * count]}}).encode()
        with open(self.path(path), "wb") as file:
            file.write(struct.pack("<Q", len(header)) + header)
            file.write(struct.pack(f"<{count}f", *numbers))

    # ---- runs ----

    def command(self, ranks, run, settings, options=()):
        """The command that trains into `run`; `settings` are overrides, None ranks: no mpirun."""
        command = ["mpirun", "-q", "-np", str(ranks)] if ranks else []
        command += [WEFT, "train", "recipe.yaml", "--quiet", "--run", run]
        for key, value in settings.items():
            command += ["--set", f"{key}={value}"]
        return command + list(options)

    def start(self, command):
        """Starts a command in a process group of its own; finish() waits for it."""
        self.started.append(
            subprocess.Popen(command, cwd=self.folder, env=self.environment, text=True,
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, start_new_session=True))
        return self.started[-1]

    def kill(self, process):
        """Ends a command and its ranks, which have process groups of their own, at once."""
        for number in [process.pid, *self.ranks_of(process)]:
            os.kill(number, signal.SIGKILL)

    def give_up(self, *_):
        """The test takes too long: leaves no process behind."""
        for process in self.started:
            if process.poll() is None:
                self.kill(process)
        self.close()
        os._exit(1)

    def finish(self, process, timeout=100):
        try:
            said, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.kill(process)
            said, _ = process.communicate()
            said += f"\n(killed after {timeout} s)"
        return Result(process.returncode, said)

    def train(self, ranks, run, settings=None, options=()):
        return self.finish(self.start(self.command(ranks, run, settings or {}, options)))

    def trained(self, ranks, run, settings=None, options=()):
        """Trains, which must succeed, and gives the run's steps."""
        result = self.train(ranks, run, settings, options)
        if result.code != 0:
            self.close()
            sys.exit(f"Bail out! {run}: exit {result.code}: {result.said}")
        return self.steps(run)

    def ranks_of(self, process):
        """The process numbers of the ranks that mpirun has started, in order."""
        found = {}
        for entry in os.listdir("/proc"):
            try:
                with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as file:
                    parent = int(file.read().rsplit(")", 1)[1].split()[1])
                if parent != process.pid:
                    continue
                with open(f"/proc/{entry}/environ", encoding="utf-8", errors="replace") as file:
                    for item in file.read().split("\0"):
                        if item.startswith("OMPI_COMM_WORLD_RANK="):
                            found[int(item.split("=")[1])] = int(entry)
            except (OSError, ValueError):
                continue
        return [found[rank] for rank in sorted(found)]

    def is_alive(self, number):
        try:
            with open(f"/proc/{number}/stat", encoding="utf-8", errors="replace") as file:
                return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
        except OSError:
            return False

    def lines(self, run):
        """What a run logged; a line that was cut off is left out."""
        lines = []
        if not os.path.exists(self.path(run, "log.jsonl")):
            return lines
        with open(self.path(run, "log.jsonl"), encoding="utf-8") as file:
            for text in file:
                if text.endswith("}\n"):
                    lines.append(json.loads(text, parse_float=Number))
        return lines

    def steps(self, run):
        """{step: line}; of a step that was done again, the last."""
        return {line["step"]: line for line in self.lines(run) if line["kind"] == "step"}

    def wait_for_step(self, process, run, step):
        while process.poll() is None and step not in self.steps(run):
            time.sleep(0.02)

    # ---- cases ----

    def case(self, good, name, *notes):
        self.number += 1
        print(f"{'ok' if good else 'not ok'} {self.number} - {name}")
        if not good:
            self.failed += 1
            for note in notes:
                for line in str(note).splitlines()[-40:]:
                    print(f"# {line}")
        sys.stdout.flush()

    def skip(self, name, reason):
        self.number += 1
        print(f"ok {self.number} - {name} # SKIP {reason}")

    def end(self):
        print(f"1..{self.number}")
        self.close()
        sys.exit(1 if self.failed else 0)


class Number(float):
    """A number that keeps the text it was read from, so that equal means equal bit for bit."""

    def __new__(cls, text):
        self = super().__new__(cls, text)
        self.text = text
        return self

    def __repr__(self):
        return self.text


def numbers_of(line):
    """Everything about a step that does not depend on the clock or the machine, as text."""
    keys = ("step", "epoch", "index", "draws", "losses", "metrics", "lr", "gradient_norm")
    return " ".join(f"{key}={line[key]}" for key in keys)


def first_difference(a, b, steps):
    """"" where two runs are equal bit for bit at `steps`, else the first place they are not."""
    for step in steps:
        if step not in a or step not in b:
            return f"step {step} is missing"
        if numbers_of(a[step]) != numbers_of(b[step]):
            return f"{numbers_of(a[step])}\n{numbers_of(b[step])}"
    return ""


def largest_error(a, b, steps):
    """The largest relative difference of a loss; infinity where a step is missing or saw other
    samples, masks or negatives."""
    largest = 0.0
    for step in steps:
        if step not in a or step not in b:
            return float("inf")
        for key in ("epoch", "index", "draws"):
            if a[step][key] != b[step][key]:
                return float("inf")
        for name, value in a[step]["losses"].items():
            other = b[step]["losses"][name]
            if not isinstance(value, float) or not isinstance(other, float):
                return float("inf")
            largest = max(largest, abs(value - other) / max(abs(value), abs(other), 1e-6))
    return largest
