# needs=python:tensorboard timeout=120
"""The event file of test_tensorboard, read by the tensorboard package."""
import os
import shutil
import struct
import subprocess
import sys
import tempfile

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

build = os.environ.get("WEFT_BUILD", "build/release")
folder = tempfile.mkdtemp()
failed = False
count = 0


def check(name, good, found):
    global failed, count
    count += 1
    print(f"{'ok' if good else 'not ok'} {count} - {name}")
    if not good:
        print(f"# found: {found}")
        failed = True


def f32(value):
    return struct.unpack("f", struct.pack("f", value))[0]


try:
    subprocess.run([f"{build}/tests/launch/test_tensorboard"], env=dict(os.environ, WEFT_KEEP=folder), check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    events = EventAccumulator(folder)
    events.Reload()
    tags = events.Tags()["scalars"]
    check("all scalars", len(tags) == 19, tags)
    for tag, step, value in (("loss/mlm", 201, 0.1), ("lr/heads", 201, 5e-5), ("time/compute", 201, 0.08),
                             ("eval-val/itm_accuracy", 300, 0.75)):
        points = [(e.step, e.value) for e in events.Scalars(tag)]
        check(tag, points == [(step, f32(value))], points)
finally:
    shutil.rmtree(folder)
print(f"1..{count}")
sys.exit(failed)
