#!/usr/bin/env python3
"""Turns ViLT's and METER's Arrow tables into weft shards (schema v1, docs/data-format.md).

usage: arrow_to_h5.py -o OUT-%05d.h5 [--shard-size N] [--on-bad fail|skip] TABLE.arrow...
then:  weft check --seal OUT-*.h5

Needs pyarrow, h5py and numpy. Tables are read batch by batch through a memory map. By their columns:
  image, caption                                   captions (coco, f30k, vg, sbu, cc)
  image, questions, answers, answer_scores         VQAv2, with soft scores
  image_0, image_1, questions, answers             NLVR2, statements about a pair
"""
import argparse
import hashlib
import os
import sys

import h5py
import numpy as np
import pyarrow as pa

CAPTION, QUESTION, STATEMENT = 0, 1, 2


def fail(message):
    sys.exit(f"arrow_to_h5: {message}")


def batches(path):
    """The record batches of an Arrow file, or of an Arrow stream."""
    source = pa.memory_map(path, "r")
    try:
        reader = pa.ipc.open_file(source)
        return reader.schema.names, (reader.get_batch(i) for i in range(reader.num_record_batches))
    except pa.ArrowInvalid:
        try:
            reader = pa.ipc.open_stream(source)
        except pa.ArrowInvalid as error:
            fail(f"{path}: not an Arrow table: {error}")
        return reader.schema.names, iter(reader)


class Item:
    """One row: pictures, and texts as (kind, text, key, label, answers)."""

    def __init__(self, name, images):
        self.name, self.images, self.texts = name, images, []

    def add(self, kind, text, key="", label=-1, answers=()):
        if not isinstance(text, str) or not text.strip():
            raise ValueError("a text is empty")
        self.texts.append((kind, text.strip().encode(), str(key).encode(), label, answers))


def read_captions(row, item):
    texts = row["caption"] if isinstance(row["caption"], list) else [row["caption"]]
    for text in texts:
        item.add(CAPTION, text)


def read_questions(row, item):
    keys = row.get("question_id") or [""] * len(row["questions"])
    answers = row.get("answers") or [[] for _ in keys]
    scores = row.get("answer_scores") or [[] for _ in keys]
    for text, key, names, values in zip(row["questions"], keys, answers, scores):
        if len(names) != len(values):
            raise ValueError(f"question {key}: {len(names)} answers with {len(values)} scores")
        item.add(QUESTION, text, key, answers=list(zip(names, values)))


def read_statements(row, item):
    for text, answer in zip(row["questions"], row["answers"]):
        if answer not in ("True", "False"):
            raise ValueError(f"the answer to a statement is {answer!r}")
        item.add(STATEMENT, text, row.get("identifier", ""), label=int(answer == "True"))


def kind_of(path, names):
    """What the columns hold: names of picture columns, and the function for the rest."""
    names = set(names)
    if {"image_0", "image_1", "questions", "answers"} <= names:
        return ["image_0", "image_1"], read_statements
    if {"image", "questions"} <= names:
        return ["image"], read_questions
    if {"image", "caption"} <= names:
        return ["image"], read_captions
    return fail(f"{path}: columns {', '.join(sorted(names))}: neither captions, VQA nor NLVR2")


def items(paths, on_bad):
    """Yields the good items of all tables; counts the others in items.skipped."""
    items.skipped = 0
    for path in paths:
        names, parts = batches(path)
        columns, read = kind_of(path, names)
        row_number = -1
        for batch in parts:
            for i in range(batch.num_rows):
                row_number += 1
                try:
                    row = {name: batch.column(j)[i].as_py() for j, name in enumerate(names)}
                    images = [row[column] for column in columns]
                    if not all(isinstance(image, bytes) and image for image in images):
                        raise ValueError("a picture is missing")
                    name = row.get("image_id") or row.get("identifier") or f"row {row_number}"
                    item = Item(str(name), images)
                    read(row, item)
                except ValueError as error:
                    message = f"{path}: row {row_number}: {error}"
                    if on_bad == "fail":
                        fail(message + " (--on-bad skip leaves such rows out)")
                    print(f"arrow_to_h5: {message}", file=sys.stderr)
                    items.skipped += 1
                    continue
                yield item


def strings(group, name, values, offset="offset"):
    """A list of bytes as one dataset and its offsets."""
    group[name] = np.frombuffer(b"".join(values), np.uint8)
    group[offset] = np.cumsum([0] + [len(value) for value in values], dtype=np.int64)


def write_pictures(group, pictures, keys):
    """The pictures' bytes go into a dataset made beforehand, so that they are in memory once."""
    offsets = np.cumsum([0] + [len(picture) for picture in pictures], dtype=np.int64)
    data = group.create_dataset("bytes", (int(offsets[-1]),), np.uint8)
    for i, picture in enumerate(pictures):
        data[offsets[i]:offsets[i + 1]] = np.frombuffer(picture, np.uint8)
    group["offset"] = offsets
    strings(group, "key", keys, "key_offset")


def write_texts(file, texts, images):
    """`texts` as in Item; `images` are their (first, second) pictures."""
    group = file.create_group("texts")
    strings(group, "bytes", [text[1] for text in texts])
    strings(group, "key", [text[2] for text in texts], "key_offset")
    group["image"] = np.array([first for first, _ in images], np.int64)
    group["image2"] = np.array([second for _, second in images], np.int64)
    group["kind"] = np.array([text[0] for text in texts], np.int8)
    group["label"] = np.array([text[3] for text in texts], np.int8)
    answers = [(i, answer, score) for i, text in enumerate(texts) for answer, score in text[4]]
    if answers:
        group = file.create_group("answers")
        strings(group, "bytes", [answer.encode() for _, answer, _ in answers])
        group["text"] = np.array([i for i, _, _ in answers], np.int64)
        group["score"] = np.array([score for _, _, score in answers], np.float32)


def write_shard(path, shard_items, attributes):
    """Writes one shard under a temporary name and then moves it to `path`."""
    pictures, keys, texts, images = [], [], [], []
    for item in shard_items:
        first = len(pictures)
        second = first + 1 if len(item.images) > 1 else -1
        pictures += item.images
        names = [item.name] if second < 0 else [item.name + "-0", item.name + "-1"]
        keys += [name.encode() for name in names]
        texts += item.texts
        images += [(first, second)] * len(item.texts)
    temporary = path + ".part"
    with h5py.File(temporary, "w") as file:
        file.attrs.update(attributes)
        write_pictures(file.create_group("images"), pictures, keys)
        if texts:
            write_texts(file, texts, images)
    os.replace(temporary, path)
    print(f"{path}: {len(pictures)} pictures, {len(texts)} texts")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="+", metavar="TABLE.arrow")
    parser.add_argument("-o", "--output", required=True, metavar="OUT-%05d.h5")
    parser.add_argument("--shard-size", type=int, default=10000)
    parser.add_argument("--on-bad", choices=["fail", "skip"], default="fail")
    options = parser.parse_args()
    try:
        if options.output % 0 == options.output % 1 or options.shard_size < 1:
            raise TypeError
    except (TypeError, ValueError):
        fail("--output needs one %05d for the shard's number, --shard-size at least 1")
    identity = hashlib.sha256(repr([(os.path.basename(path), os.path.getsize(path))
                                    for path in options.tables]).encode())
    attributes = {"format": "weft", "schema": 1, "set_id": identity.hexdigest()[:16],
                  "set": os.path.basename(options.output).split("%")[0].rstrip("-_. "),
                  "origin": "arrow_to_h5.py " + " ".join(map(os.path.basename, options.tables))}
    written, waiting = [], []
    for item in items(options.tables, options.on_bad):
        waiting.append(item)
        if len(waiting) == options.shard_size:
            written.append(options.output % len(written))
            write_shard(written[-1], waiting, {**attributes, "shard": len(written) - 1, "shards": 0})
            waiting = []
    if waiting or not written:
        written.append(options.output % len(written))
        write_shard(written[-1], waiting, {**attributes, "shard": len(written) - 1, "shards": 0})
    for path in written:  # their number is known only now
        with h5py.File(path, "r+") as file:
            file.attrs["shards"] = len(written)
            file.attrs["skipped"] = items.skipped
    if items.skipped:
        print(f"arrow_to_h5: {items.skipped} rows left out", file=sys.stderr)


if __name__ == "__main__":
    main()
