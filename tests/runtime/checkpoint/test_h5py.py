# The Python example of docs/checkpoint.md reads a checkpoint that weft wrote.   needs=python:h5py timeout=60
import os
import re
import subprocess
import sys
import tempfile

top = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../.."))
build = os.environ.get("WEFT_BUILD", os.path.join(top, "build/release"))
number = 0


def case(name, good, detail=""):
    global number
    number += 1
    print(f"{'ok' if good else 'not ok'} {number} - {name}", flush=True)
    if not good:
        print(f"# {detail}", flush=True)
        sys.exit(1)


with open(os.path.join(top, "docs/checkpoint.md")) as page:
    example = re.search(r"```python\n(.*?)```", page.read(), re.S).group(1)
with tempfile.TemporaryDirectory() as folder:
    # The test program of damage and death writes one when asked to.
    program = os.path.join(build, "tests/runtime/checkpoint/test_interrupted")
    done = subprocess.run([program, "--example", folder], capture_output=True, text=True)
    case("a checkpoint is written", done.returncode == 0, done.stderr)
    done = subprocess.run([sys.executable, "-c", example], cwd=folder, capture_output=True, text=True)
    case("the example runs", done.returncode == 0, done.stderr)
    case("step, vectors and recipe", done.stdout.startswith("1000 ['moment1', 'moment2', 'parameters'] name: fixture"),
         done.stdout)
    case("a parameter", done.stdout.rstrip().endswith("314.0"), done.stdout)
print(f"1..{number}")
