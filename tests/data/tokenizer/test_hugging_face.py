"""What the Hugging Face library says about the same files and texts. needs=python:tokenizers timeout=120

The case files hold what it said when they were written, so that the C tests can check without it; this
program says it again, and checks the vocabularies that weft trains. `--write` writes the case files anew.
"""
import json
import os
import subprocess
import sys
import tempfile

from tokenizers import BertWordPieceTokenizer, ByteLevelBPETokenizer, Tokenizer
from tokenizers.processors import RobertaProcessing

CASES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "cases")
WEFT = os.path.join(os.environ.get("WEFT_BUILD", "build/release"), "weft")

TEXTS = [
    "",
    " ",
    "a",
    "a red square is left of the blue circle.",
    " a leading space and a trailing one ",
    "two  spaces, three   spaces,\ttabs\tand\nline\n\n ends\r\n",
    "don't can't we've I'll she'd they're I'm it's DON'T WE'VE 'tis",
    "naïve café façade Ångström ZÜRICH São",
    "e\u0301 a\u0308 decomposed cafe\u0301s",
    "日本語のテキストと中文字符 mixed with English",
    "한국어 문장입니다",
    "Здравствуй, мир! ΣΊΣΥΦΟΣ",
    "ภาษาไทย नमस्ते दुनिया مرحبا بالعالم",
    "emoji 👩‍👩‍👧 and 🇫🇷 and ❤️!",
    "½ ² Ⅷ ٣ ४ 2nd 12.50 1,000,000",
    "\u2003em space\u00a0no-break\u3000ideographic\u200bzero width\x85next line",
    "controls \x01\x02\x1f\x7f and \ufffd and \ue000",
    "İstanbul ıI ßẞ ﬁ ſ Ǆ",
    "a" * 50,
    "x" * 100,
    "x" * 101,
    "ab" * 40 + " " + "é" * 60,
    "!!!???...,,,;;;---___***",
    "close-up of a (red) [green] {blue} <yellow> \"circle\" 'square' `x` ~ ^ | \\ / @ # $ % & + =",
    "unseen zebras skateboarding quixotically",
    "a b  c   d    e     f",
    "\n\n\n",
    "a\n b \n  c",
]


def bpe():
    tokenizer = ByteLevelBPETokenizer(f"{CASES}/vocab.json", f"{CASES}/merges.txt")
    ids = tokenizer.token_to_id
    tokenizer._tokenizer.post_processor = RobertaProcessing(
        ("</s>", ids("</s>")), ("<s>", ids("<s>")), trim_offsets=True, add_prefix_space=False)
    return tokenizer


def wordpiece(lowercase):
    return BertWordPieceTokenizer(f"{CASES}/vocab.txt", lowercase=lowercase)


KINDS = {
    "bpe": bpe,
    "wordpiece": lambda: wordpiece(True),
    "wordpiece_cased": lambda: wordpiece(False),
}


def cases(kind):
    tokenizer = KINDS[kind]()
    for text in TEXTS:
        encoding = tokenizer.encode(text)
        yield {"text": text, "ids": encoding.ids, "spans": [list(span) for span in encoding.offsets],
               "words": [-1 if word is None else word for word in encoding.word_ids]}


def write():
    captions = open(f"{CASES}/captions.txt", encoding="utf-8").read().split("\n")[:-1]
    tokenizer = BertWordPieceTokenizer(lowercase=True)
    extra = ["日本 語 中文", "é ß ² ½ 한", "İ ı", "Здравствуй", "Ab Ce"]
    tokenizer.train_from_iterator(captions + extra, vocab_size=500, min_frequency=2, show_progress=False)
    tokenizer.save_model(CASES)
    for kind in KINDS:
        with open(f"{CASES}/{kind}.jsonl", "w", encoding="utf-8") as file:
            for case in cases(kind):
                file.write(json.dumps(case, ensure_ascii=True) + "\n")


class Tap:
    def __init__(self):
        self.count = self.failed = 0

    def check(self, name, good, why=""):
        self.count += 1
        self.failed += not good
        print(f"{'ok' if good else 'not ok'} {self.count} - {name}{'' if good else ' # ' + str(why)}")


def same_cases(tap, kind):
    with open(f"{CASES}/{kind}.jsonl", encoding="utf-8") as file:
        stored = [json.loads(line) for line in file]
    for old, new in zip(stored, cases(kind)):
        if old != new:
            tap.check(f"stored cases of {kind}", False, f"{old} is now {new}")
            return
    tap.check(f"stored cases of {kind}", len(stored) == len(TEXTS), "number of cases")


def weft(*arguments, text=None):
    done = subprocess.run([WEFT, "tokenizer", *arguments], input=text, capture_output=True, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def train_same(tap, folder):
    """weft and the library find the same merges; the library loads and encodes with weft's files."""
    captions = f"{CASES}/captions.txt"
    code, _, error = weft("train", "-n", "700", "-m", "2", "-o", folder, captions)
    tap.check("weft trains", code == 0, error)
    library = ByteLevelBPETokenizer()
    lines = open(captions, encoding="utf-8").read().split("\n")[:-1]
    library.train_from_iterator(lines, vocab_size=700, min_frequency=2, show_progress=False,
                                special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    os.mkdir(f"{folder}/library")
    library.save_model(f"{folder}/library")
    ours, theirs = open(f"{folder}/merges.txt").read(), open(f"{folder}/library/merges.txt").read()
    tap.check("the same merges", ours == theirs, "merges.txt differs")


def loads(tap, folder):
    library = Tokenizer.from_file(f"{folder}/tokenizer.json")
    special = [library.token_to_id(name) for name in ("<s>", "<pad>", "</s>", "<unk>", "<mask>")]
    tap.check("special tokens at 0 to 3 and last", special == [0, 1, 2, 3, library.get_vocab_size() - 1],
              special)
    texts = [text for text in TEXTS if "\n" not in text]
    code, out, error = weft("encode", folder, "--json", "--special",
                            text="".join(text + "\n" for text in texts).encode())
    rows = [json.loads(line) for line in out.split("\n")[:-1]]
    tap.check("weft encodes", code == 0 and len(rows) == len(texts), error)
    for text, row in zip(texts, rows):
        encoding = library.encode(text)
        if encoding.ids != row["ids"] or [list(span) for span in encoding.offsets] != row["spans"]:
            tap.check("the same ids and spans", False, f"{text!r}: {encoding.tokens} {row}")
            return
    tap.check("the same ids and spans", True)
    separate = ByteLevelBPETokenizer(f"{folder}/vocab.json", f"{folder}/merges.txt")
    good = all(separate.encode(text).ids == row["ids"][1:-1] for text, row in zip(texts, rows))
    tap.check("vocab.json and merges.txt say the same", good)
    masked = library.encode("a <mask> square").ids
    code, out, error = weft("encode", folder, "-s", "-p", "a <mask> square")
    tap.check("<mask> in text", [int(i) for i in out.split()] == masked, f"{out} {masked} {error}")


def main():
    tap = Tap()
    for kind in KINDS:
        same_cases(tap, kind)
    with tempfile.TemporaryDirectory() as folder:
        train_same(tap, folder)
        loads(tap, folder)
    print(f"1..{tap.count}")
    return 1 if tap.failed else 0


if __name__ == "__main__":
    if "--write" in sys.argv:
        write()
    else:
        sys.exit(main())
