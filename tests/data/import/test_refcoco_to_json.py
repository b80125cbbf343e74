"""needs=python
RefCOCO's pickle becomes the JSON that weft pack refcoco reads; other pickles are refused."""
import json
import os
import pickle
import subprocess
import sys
import tempfile

SCRIPT = os.path.join(os.path.dirname(__file__), "../../../data/import/refcoco_to_json.py")
count = 0


def check(good, name):
    global count
    count += 1
    print(f"{'ok' if good else 'not ok'} {count} - {name}")
    if not good:
        sys.exit(1)


def run(folder, content):
    with open(f"{folder}/refs.p", "wb") as file:
        file.write(content)
    return subprocess.run([sys.executable, SCRIPT, f"{folder}/refs.p", f"{folder}/refs.json"],
                          capture_output=True, text=True)


class Harmful:
    def __reduce__(self):
        return (os.system, ("exit 3",))


with tempfile.TemporaryDirectory() as folder:
    refs = [{"ref_id": 1, "ann_id": 5, "image_id": 7, "split": "train",
             "sentences": [{"sent": "the d\u00f6g", "raw": "The d\u00f6g!", "sent_id": 11, "tokens": ["a"]}]},
            {"ref_id": 2, "ann_id": 6, "image_id": 8, "split": "val", "sentences": []}]
    for protocol in (0, 2, 4):
        result = run(folder, pickle.dumps(refs, protocol))
        with open(f"{folder}/refs.json", encoding="utf-8") as file:
            check(result.returncode == 0 and json.load(file) == refs, f"pickle protocol {protocol}")
    result = run(folder, pickle.dumps([Harmful()]))
    check(result.returncode == 1 and "not only plain data" in result.stderr, "code is refused")
    result = run(folder, pickle.dumps({"refs": 1}))
    check(result.returncode == 1 and "not a list of references" in result.stderr, "another object is refused")
    result = run(folder, b"not a pickle")
    check(result.returncode == 1 and "refs.p:" in result.stderr, "another file is refused")
