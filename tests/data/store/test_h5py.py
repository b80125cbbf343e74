# The Python example of docs/data-format.md writes a set that weft check finds sound and can seal, and h5py reads
# what weft has sealed.   needs=python:h5py timeout=60
import os
import re
import struct
import subprocess
import sys
import tempfile
import zlib

import h5py

top = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../.."))
weft = os.path.join(os.environ.get("WEFT_BUILD", os.path.join(top, "build/release")), "weft")
number = 0


def case(name, good, detail=""):
    global number
    number += 1
    print(f"{'ok' if good else 'not ok'} {number} - {name}", flush=True)
    if not good:
        print(f"# {detail}", flush=True)
        sys.exit(1)


def run(*words):
    done = subprocess.run(words, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def png(width, height, grey):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    rows = b"".join(b"\0" + bytes(v for x in range(width) for v in (grey, x, 9)) for _ in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


with open(os.path.join(top, "docs/data-format.md")) as page:
    example = re.search(r"```python\n(.*?)```", page.read(), re.S).group(1)
lines = [line for line in example.split("\n") if line.strip()]
case("the example has about 30 lines", 25 <= len(lines) <= 32, len(lines))

with tempfile.TemporaryDirectory() as folder:
    pictures = []
    for i in range(3):
        pictures.append(os.path.join(folder, f"{i}.png"))
        with open(pictures[-1], "wb") as file:
            file.write(png(16 + i, 10, 40 * i))
    script = os.path.join(folder, "example.py")
    with open(script, "w") as file:
        file.write(example)
    shard = os.path.join(folder, "mine.h5")
    code, text = run(sys.executable, script, shard, *pictures)
    case("the example runs", code == 0, text)
    code, text = run(weft, "check", shard)
    case("weft check finds it sound", code == 0 and "sound: 3 images, 3 texts, 3 boxes" in text, text)
    case("and says that it has no hashes", "shard without picture hashes" in text, text)
    code, text = run(weft, "check", "--seal", shard)
    case("weft check --seal seals it", code == 0 and "mine.h5: sealed" in text, text)
    code, text = run(weft, "check", shard)
    case("a sealed one has nothing to note", code == 0 and "note" not in text, text)
    with h5py.File(shard, "r") as file:
        first, end = file["images/offset"][1:3]
        with open(pictures[1], "rb") as picture:
            case("h5py reads the pictures", file["images/bytes"][first:end].tobytes() == picture.read())
        case("h5py sees hashes and uuid", file["images/hash"].shape == (3,) and len(file.attrs["uuid"]) == 32)
    with open(shard, "r+b") as file:
        file.seek(1000)
        byte = file.read(1)
        file.seek(1000)
        file.write(bytes([byte[0] ^ 1]))
    code, text = run(weft, "check", shard)
    case("damage is noticed", code == 1 and "damaged" in text, text)

    # With a user block, booleans and other integer types, in a second shard; and a box outside its picture.
    other = os.path.join(folder, "other.h5")
    with h5py.File(other, "w", userblock_size=512) as file:
        file.attrs["format"] = b"weft"
        file.attrs["schema"] = 1
        data = png(5, 4, 1)
        file["images/bytes"] = list(data)
        case("a list of integers is not bytes", file["images/bytes"].dtype == "int64")
        del file["images/bytes"]
        file["images/bytes"] = memoryview(data)
        file["images/offset"] = [0, len(data)]
        file["boxes/xyxy"] = [[0.0, 0.0, 5.0, 4.0], [1.0, 1.0, 6.0, 2.0]]
        file["boxes/image"] = [0, 0]
        file["boxes/crowd"] = [True, False]
    code, text = run(weft, "check", other)
    case("the first bad row is named", code == 1 and "box outside its image: 1, first: " + other +
         ": image 0: box 1 [1, 1, 6, 2] on 5 x 4" in text, text)
    with h5py.File(other, "r+") as file:
        file["boxes/xyxy"][1, 2] = 5.0
    code, text = run(weft, "check", "--seal", other)
    case("a user block does not shift the data", code == 0 and "sound: 1 images" in text, text)
    code, text = run(weft, "check", other)
    case("and it can be sealed", code == 0 and "note" not in text, text)
    with h5py.File(other, "r+") as file:
        file.create_dataset("images/width", data=[5], compression="gzip")
    code, text = run(weft, "check", other)
    case("compressed data are refused with the remedy", code == 1 and "h5repack" in text, text)
print(f"1..{number}")
