#!/usr/bin/env python3
"""Turns a PyTorch checkpoint (FIBER's .ckpt, or any state dict) into safetensors, for `weft import`.

usage: ckpt_to_safetensors.py SOURCE.ckpt OUT.safetensors

Needs nothing but Python: a checkpoint is a zip file with a pickle of the structure and one file per
storage. The pickle is read by rules of our own, so no code in it runs; what is no tensor is passed
over. FIBER's queues of pictures and texts are left out: gigabytes that no one imports.
"""
import collections
import json
import os
import pickle
import struct
import sys
import zipfile

# torch's storage classes: name in safetensors, bytes of an element.
STORAGES = {
    "FloatStorage": ("F32", 4), "HalfStorage": ("F16", 2), "BFloat16Storage": ("BF16", 2),
    "DoubleStorage": ("F64", 8), "LongStorage": ("I64", 8), "IntStorage": ("I32", 4),
    "ShortStorage": ("I16", 2), "CharStorage": ("I8", 1), "ByteStorage": ("U8", 1), "BoolStorage": ("BOOL", 1),
}
LEFT_OUT = ("image_input_queue", "text_input_queue", "text_input_mask_queue")

Storage = collections.namedtuple("Storage", "dtype width key elements")
Tensor = collections.namedtuple("Tensor", "storage offset shape stride")


class Refused(Exception):
    """Something the user can act on."""


class Unknown:
    """Stands for any object that is not a tensor: hyper-parameters, callbacks, optimiser classes."""

    def __init__(self, *arguments, **named):
        pass

    def __setstate__(self, state):
        pass

    def __setitem__(self, key, value):
        pass

    def append(self, value):
        pass

    def extend(self, values):
        pass


def rebuild_tensor(storage, offset, shape, stride, *rest):
    return Tensor(storage, offset, tuple(shape), tuple(stride))


def rebuild_parameter(data, *rest):
    return data


KNOWN = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): rebuild_parameter,
}


class Reader(pickle.Unpickler):
    def find_class(self, module, name):
        if module in ("torch", "torch.storage") and name in STORAGES:
            return name
        return KNOWN.get((module, name), Unknown)

    def persistent_load(self, pid):
        kind, storage, key, _, elements = pid
        if kind != "storage" or storage not in STORAGES:
            raise Refused(f"holds a storage of the kind {storage}, which is not known")
        return Storage(*STORAGES[storage], key, elements)


def state_dict_of(content):
    """A Lightning checkpoint keeps its weights under state_dict, others under model; a state dict is itself."""
    if not isinstance(content, dict):
        raise Refused("holds no state dict")
    for key in ("state_dict", "model"):
        if isinstance(content.get(key), dict):
            return content[key]
    return content


def elements_of(shape):
    count = 1
    for size in shape:
        count *= size
    return count


def is_contiguous(tensor):
    expected = 1
    for size, stride in zip(reversed(tensor.shape), reversed(tensor.stride)):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True


def gather(tensor, data):
    """The elements of a transposed or sliced tensor, in order."""
    width = tensor.storage.width
    places = [tensor.offset]
    for size, stride in zip(tensor.shape, tensor.stride):
        places = [place + i * stride for place in places for i in range(size)]
    return b"".join(data[place * width:(place + 1) * width] for place in places)


def bytes_of(tensor, archive, prefix):
    width = tensor.storage.width
    data = archive.read(f"{prefix}data/{tensor.storage.key}")
    count = elements_of(tensor.shape)
    last = tensor.offset + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride))
    if count > 0 and (last + 1) * width > len(data):
        raise Refused("a tensor does not lie in its storage: the file is damaged")
    if is_contiguous(tensor):
        return data[tensor.offset * width:(tensor.offset + count) * width]
    return gather(tensor, data)


def read_structure(source):
    if not zipfile.is_zipfile(source):
        raise Refused("not a checkpoint of PyTorch 1.6 or later; load it there and torch.save it again")
    archive = zipfile.ZipFile(source)
    pickles = [name for name in archive.namelist() if name.endswith("/data.pkl") or name == "data.pkl"]
    if len(pickles) != 1:
        raise Refused("a zip file, but not one of torch.save")
    prefix = pickles[0][:-len("data.pkl")]
    if f"{prefix}byteorder" in archive.namelist() and archive.read(f"{prefix}byteorder") != b"little":
        raise Refused("written on a big-endian machine")
    with archive.open(pickles[0]) as file:
        return archive, prefix, Reader(file).load()


def write(output, tensors, archive, prefix):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    # Wide elements first, so that all lie at multiples of their size.
    order = sorted(tensors, key=lambda name: (-tensors[name].storage.width, name))
    for name in order:
        size = elements_of(tensors[name].shape) * tensors[name].storage.width
        header[name] = {"dtype": tensors[name].storage.dtype, "shape": list(tensors[name].shape),
                        "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(f"{output}.tmp", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in order:
            file.write(bytes_of(tensors[name], archive, prefix))
    os.replace(f"{output}.tmp", output)


def convert(source, output):
    archive, prefix, content = read_structure(source)
    tensors, left_out = {}, []
    for name, value in state_dict_of(content).items():
        if isinstance(value, Tensor) and not str(name).startswith(LEFT_OUT):
            tensors[str(name).removeprefix("module.")] = value
        else:
            left_out.append(str(name))
    if not tensors:
        raise Refused("holds no tensors")
    write(output, tensors, archive, prefix)
    print(f"{output}: {len(tensors)} tensors" + (f"; left out: {', '.join(left_out)}" if left_out else ""))


def main(arguments):
    if len(arguments) != 2 or arguments[0].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    try:
        convert(*arguments)
    except (Refused, OSError, zipfile.BadZipFile, pickle.UnpicklingError, EOFError, KeyError, ValueError) as error:
        print(f"ckpt_to_safetensors.py: {arguments[0]}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
