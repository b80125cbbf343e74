"""needs=python:pyarrow,python:h5py,python:numpy
ViLT's Arrow tables become shards that weft check finds sound; bad rows are named."""
import os
import struct
import subprocess
import sys
import tempfile
import zlib

import h5py
import pyarrow as pa

ROOT = os.path.join(os.path.dirname(__file__), "../../..")
SCRIPT = os.path.join(ROOT, "data/import/arrow_to_h5.py")
WEFT = os.path.join(os.environ.get("WEFT_BUILD", os.path.join(ROOT, "build/release")), "weft")
count = 0


def check(good, name, said=""):
    global count
    count += 1
    print(f"{'ok' if good else 'not ok'} {count} - {name}")
    if not good:
        print(f"# {said}")
        sys.exit(1)


def png(shade):
    """A grey picture of 5 x 4."""
    def chunk(name, data):
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))
    rows = (b"\0" + bytes([shade] * 5)) * 4
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 5, 4, 8, 0, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def write(path, columns, stream=False):
    table = pa.table(columns)
    with pa.OSFile(path, "wb") as sink:
        writer = pa.ipc.new_stream(sink, table.schema) if stream else pa.ipc.new_file(sink, table.schema)
        with writer:
            for batch in table.to_batches(max_chunksize=2):
                writer.write_batch(batch)


def convert(folder, *arguments):
    return subprocess.run([sys.executable, SCRIPT, *arguments], cwd=folder, capture_output=True, text=True)


def sound(folder, pattern, text):
    result = subprocess.run([WEFT, "check", "--seal", pattern], cwd=folder, capture_output=True, text=True)
    said = result.stdout + result.stderr
    check(result.returncode == 0 and text in said, f"weft check {pattern}: {text}", said)


with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    captions = {"image": [png(i) for i in range(5)], "caption": [["one", "two \u00e9"]] * 5,
                "image_id": [f"{i}.png" for i in range(5)], "split": ["train"] * 5}
    write("coco.arrow", captions)
    result = convert(folder, "-o", "coco-%05d.h5", "--shard-size", "2", "coco.arrow")
    check(result.returncode == 0, "captions convert", result.stderr)
    sound(folder, "coco-*.h5", "5 images, 10 texts, 0 boxes, 0 answers in 3 shards")
    with h5py.File("coco-00001.h5") as file:
        text = bytes(file["texts/bytes"])[file["texts/offset"][1]:file["texts/offset"][2]].decode()
        check(text == "two \u00e9" and file.attrs["shards"] == 3 and file.attrs["shard"] == 1, "what it holds")
    write("stream.arrow", captions, stream=True)
    result = convert(folder, "-o", "stream-%05d.h5", "stream.arrow")
    check(result.returncode == 0, "a stream converts", result.stderr)

    write("vqa.arrow", {"image": [png(9)], "questions": [["What?", "Who?"]], "question_id": [[11, 12]],
                        "answers": [[["cat", "dog"], ["me"]]], "answer_scores": [[[1.0, 0.3], [0.6]]],
                        "answer_labels": [[[1, 2], [3]]], "image_id": [42]})
    check(convert(folder, "-o", "vqa-%05d.h5", "vqa.arrow").returncode == 0, "VQA converts")
    sound(folder, "vqa-*.h5", "2 texts, 0 boxes, 3 answers")

    write("nlvr2.arrow", {"image_0": [png(1)], "image_1": [png(2)], "questions": [["Both are cats.", "No."]],
                          "answers": [["True", "False"]], "identifier": ["dev-1-0"]})
    check(convert(folder, "-o", "nlvr2-%05d.h5", "nlvr2.arrow").returncode == 0, "NLVR2 converts")
    sound(folder, "nlvr2-*.h5", "2 images, 2 texts")
    with h5py.File("nlvr2-00000.h5") as file:
        check(list(file["texts/image2"]) == [1, 1] and list(file["texts/label"]) == [1, 0], "pairs and labels")

    write("bad.arrow", {"image": [png(1), b"", png(2)], "caption": [["fine"], ["x"], [" "]]})
    result = convert(folder, "-o", "bad-%05d.h5", "bad.arrow")
    check(result.returncode == 1 and "bad.arrow: row 1: a picture is missing" in result.stderr, "a bad row stops",
          result.stderr)
    result = convert(folder, "-o", "bad-%05d.h5", "--on-bad", "skip", "bad.arrow")
    check(result.returncode == 0 and "row 2: a text is empty" in result.stderr and "2 rows left out" in result.stderr,
          "bad rows are left out", result.stderr)
    with h5py.File("bad-00000.h5") as file:
        check(file.attrs["skipped"] == 2, "and counted")
    write("other.arrow", {"x": [1]})
    result = convert(folder, "-o", "x-%05d.h5", "other.arrow")
    check(result.returncode == 1 and "neither captions, VQA nor NLVR2" in result.stderr, "other columns are refused",
          result.stderr)
    with open("text.arrow", "w", encoding="ascii") as file:
        file.write("not a table")
    result = convert(folder, "-o", "x-%05d.h5", "text.arrow")
    check(result.returncode == 1 and "not an Arrow table" in result.stderr, "other files are refused", result.stderr)
    result = convert(folder, "-o", "x.h5", "coco.arrow")
    check(result.returncode == 1 and "%05d" in result.stderr, "an output without a number is refused", result.stderr)
    os.chdir("/")
