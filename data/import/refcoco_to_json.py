#!/usr/bin/env python3
"""Turns RefCOCO's pickle of references, refs(unc).p and the like, into JSON for `weft pack refcoco`.

usage: refcoco_to_json.py 'refs(unc).p' refs.json

A pickle can run code when it is read. This one should hold plain lists, dictionaries, strings and
numbers, so everything else in it is refused.
"""
import json
import pickle
import sys


class PlainUnpickler(pickle.Unpickler):
    def find_class(self, module, name):
        raise pickle.UnpicklingError(f"it holds {module}.{name}, not only plain data")


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__.split("\n\n")[1])
    try:
        with open(sys.argv[1], "rb") as file:
            refs = PlainUnpickler(file, encoding="utf-8").load()
    except (OSError, pickle.UnpicklingError, EOFError, UnicodeDecodeError) as error:
        sys.exit(f"refcoco_to_json: {sys.argv[1]}: {error}")
    if not isinstance(refs, list) or not all(isinstance(ref, dict) for ref in refs):
        sys.exit(f"refcoco_to_json: {sys.argv[1]}: not a list of references")
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        file.write("[" + ",\n".join(json.dumps(ref) for ref in refs) + "]\n")
    print(f"{sys.argv[2]}: {len(refs)} references")


if __name__ == "__main__":
    main()
