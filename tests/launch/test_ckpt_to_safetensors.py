# PyTorch's checkpoints become safetensors without PyTorch and without running what they hold. The files are made
# as torch.save lays them out (a zip with data.pkl, byteorder, and data/KEY per storage).   needs=python timeout=30
import collections
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import tempfile
import types
import zipfile

top = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
program = os.path.join(top, "launch/ckpt_to_safetensors.py")
number = 0


def case(name, good, detail=""):
    global number
    number += 1
    print(f"{'ok' if good else 'not ok'} {number} - {name}", flush=True)
    if not good:
        print(f"# {detail}", flush=True)
        sys.exit(1)


def run(*words):
    done = subprocess.run([sys.executable, program, *words], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


# What pickles of tensors refer to by name.
utils = types.ModuleType("torch._utils")
torch = types.ModuleType("torch")
exec("def _rebuild_tensor_v2(*a): pass\ndef _rebuild_parameter(*a): pass", utils.__dict__)
exec("class FloatStorage: pass\nclass HalfStorage: pass\nclass LongStorage: pass", torch.__dict__)
for member in (utils._rebuild_tensor_v2, utils._rebuild_parameter):
    member.__module__ = "torch._utils"
for member in (torch.FloatStorage, torch.HalfStorage, torch.LongStorage):
    member.__module__ = "torch"
sys.modules["torch"], sys.modules["torch._utils"] = torch, utils


class FakeStorage:
    def __init__(self, kind, data, width):
        self.kind, self.data, self.count = kind, data, len(data) // width


class FakeTensor:
    def __init__(self, storage, shape, stride, offset=0):
        self.arguments = (storage, offset, shape, stride, False, collections.OrderedDict())

    def __reduce__(self):
        return utils._rebuild_tensor_v2, self.arguments


class FakeParameter:
    def __init__(self, tensor):
        self.arguments = (tensor, True, collections.OrderedDict())

    def __reduce__(self):
        return utils._rebuild_parameter, self.arguments


class Callback:  # stands for objects of modules that are not there
    def __init__(self):
        self.best = 3


class Evil:
    def __reduce__(self):
        return os.system, (f"touch {os.path.join(folder, 'evil')}",)


def save(path, content):
    storages = []

    class Writer(pickle.Pickler):
        def persistent_id(self, value):
            if not isinstance(value, FakeStorage):
                return None
            if value not in storages:
                storages.append(value)
            return ("storage", value.kind, str(storages.index(value)), "cpu", value.count)

    text = io.BytesIO()
    Writer(text, 2).dump(content)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", text.getvalue())
        archive.writestr("model/byteorder", "little")
        for key, storage in enumerate(storages):
            archive.writestr(f"model/data/{key}", storage.data)


def load(path):
    with open(path, "rb") as file:
        raw = file.read()
    size = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:8 + size])
    data = raw[8 + size:]
    return {name: (entry["dtype"], entry["shape"], data[slice(*entry["data_offsets"])])
            for name, entry in header.items() if name != "__metadata__"}


with tempfile.TemporaryDirectory() as folder:
    source, output = os.path.join(folder, "x.ckpt"), os.path.join(folder, "x.safetensors")
    floats = struct.pack("<12f", *range(12))
    shared = FakeStorage(torch.FloatStorage, floats, 4)
    ids = FakeStorage(torch.LongStorage, struct.pack("<3q", 5, -6, 7), 8)
    halves = FakeStorage(torch.HalfStorage, b"\x00\x3c\x00\x40", 2)
    state = collections.OrderedDict([
        ("weight", FakeParameter(FakeTensor(shared, (3, 4), (4, 1)))),
        ("turned", FakeTensor(shared, (4, 3), (1, 4))),
        ("row", FakeTensor(shared, (1, 4), (4, 1), 4)),
        ("scalar", FakeTensor(shared, (), (), 7)),
        ("module.half", FakeTensor(halves, (2,), (1,))),
        ("position_ids", FakeTensor(ids, (1, 3), (3, 1))),
        ("image_input_queue", FakeTensor(shared, (3, 4), (4, 1))),
    ])
    save(source, {"epoch": 3, "state_dict": state, "callbacks": {Callback: Callback()}, "evil": Evil()})
    code, said = run(source, output)
    case("a Lightning checkpoint is converted", code == 0, said)
    case("what is left out is told", "6 tensors; left out: image_input_queue" in said, said)
    tensors = load(output)
    case("parameters have their bytes", tensors["weight"] == ("F32", [3, 4], floats))
    turned = struct.pack("<12f", *[column + 4 * row for column in range(4) for row in range(3)])
    case("a transposed tensor is put in order", tensors["turned"] == ("F32", [4, 3], turned))
    case("a part of a storage", tensors["row"] == ("F32", [1, 4], floats[16:32]))
    case("a scalar", tensors["scalar"] == ("F32", [], floats[28:32]))
    case("other types, and names without module.", tensors["half"] == ("F16", [2], b"\x00\x3c\x00\x40"))
    case("integers", tensors["position_ids"] == ("I64", [1, 3], ids.data))
    case("code in the file does not run", not os.path.exists(os.path.join(folder, "evil")))
    try:
        from safetensors import safe_open
        with safe_open(output, framework="numpy") as file:
            same = file.get_tensor("weight").tobytes() == floats and file.get_tensor("position_ids")[0, 1] == -6
        case("the safetensors package reads it", same)
    except ImportError:
        number += 1
        print(f"ok {number} - the safetensors package reads it # SKIP python3 has no safetensors with numpy")

    save(source, dict(state))
    code, said = run(source, output)
    case("a plain state dict", code == 0 and load(output)["weight"][2] == floats, said)
    save(source, {"state_dict": {"epoch": 3}})
    code, said = run(source, output)
    case("no tensors: refused", code == 1 and "holds no tensors" in said, said)
    save(source, {"x": FakeTensor(shared, (9, 9), (9, 1))})
    code, said = run(source, output)
    case("a tensor outside its storage: refused", code == 1 and "does not lie in its storage" in said, said)
    with open(source, "wb") as file:
        file.write(b"\x80\x02}q\x00.")
    code, said = run(source, output)
    case("an old pickle: refused with the remedy", code == 1 and "torch.save it again" in said, said)
    code, said = run(os.path.join(folder, "none.ckpt"), output)
    case("a missing file: refused", code == 1 and "none.ckpt" in said, said)
    code, said = run(source)
    case("usage", code == 2 and "usage:" in said, said)
print(f"1..{number}")
