"""What weft train refuses: one message that says where and what to do, the same exit code on every
rank, and nothing that was there is touched.   timeout=120 alone=yes
"""

import os
import re
import shutil

from train_fixture import Place, RECIPE, SANITIZER, first_difference, largest_error

place = Place()


def refused(name, patterns, settings=None, options=(), ranks=2, run="refused", recipe=None, code=2):
    """`patterns` are regular expressions of the one error line."""
    before = place.tree(run)
    if recipe:
        place.write("recipe.yaml", recipe)
    result = place.train(ranks, run, settings, options)
    place.write("recipe.yaml", RECIPE)
    errors = [line for line in result.said.splitlines() if "error: " in line]
    good = result.code == code and len(errors) == 1
    good = good and all(re.search(pattern, errors[0]) for pattern in patterns)
    place.case(good, name, f"exit {result.code}", result.said, *patterns)
    after = place.tree(run)
    changed = [p for p in before if before[p] != after.get(p)]
    if changed or os.path.exists(place.path(run, "log.jsonl")) != ("log.jsonl" in before):
        place.case(False, f"{name}: nothing is touched", changed)
    if not before:
        shutil.rmtree(place.path(run), ignore_errors=True)


def recipes():
    refused("a text length that is not the model's",
            [r"recipe.yaml:\d+:\d+: .*max_text_len is 12, .*max_text_len 16"],
            recipe=RECIPE.replace("  max_text_len: 16\ntoken", "  max_text_len: 12\ntoken"))
    refused("a text length beyond the positions", [r"recipe.yaml:\d+:\d+: model.positions: .*40"],
            recipe=RECIPE.replace("max_text_len: 16", "max_text_len: 40"), ranks=None)
    refused("a vocabulary smaller than the tokenizer's",
            [r"recipe.yaml:\d+:\d+: model.vocab is 200.* has 300 tokens; set model.vocab to"],
            recipe=RECIPE.replace("vocab: 300", "vocab: 200"))
    refused("an image size that is not the model's",
            [r"recipe.yaml:\d+:\d+: .*image_size is 64, .*image_size 32"],
            recipe=RECIPE.replace("  image_size: 32\n  max", "  image_size: 64\n  max"), ranks=None)
    refused("a window that does not divide", [r"recipe.yaml:\d+:\d+: .*window 3 does not divide"],
            recipe=RECIPE.replace("window: 2", "window: 3"), ranks=None)
    refused("an unknown key", [r"recipe.yaml:\d+:\d+: unknown key 'widow'.*'window'"],
            recipe=RECIPE.replace("window: 2", "widow: 2"), ranks=None)
    refused("skipping of bad samples", [r"recipe.yaml:\d+:\d+: data.on_bad: skip .*use replace"],
            recipe=RECIPE.replace("data:\n", "data:\n  on_bad: skip\n"), ranks=None)
    refused("TF32 on the processor", [r"--set train.tf32=true: train.tf32 is a way of GPUs"],
            {"train.tf32": "true"}, ranks=None)
    refused("ranks that do not divide", [r"recipe.yaml:\d+:\d+: batch.global 13 is not ranks 2 x "
                                         r"micro 6 x accumulate 1 = 12; change"],
            recipe=RECIPE.replace("global: 12", "global: 13"))
    refused("micro-batches that do not divide", [r"not ranks 3 x micro 5 x accumulate 1 = 15; "],
            {"batch.micro": 5}, ranks=3)
    refused("a single pair for itm", [r"recipe.yaml:\d+:\d+: itm draws wrong pairs .*batch.global"],
            recipe=RECIPE.replace("global: 12", "global: 1"), ranks=None)
    refused("a single pair of a rank", [r"--set batch.global=2: itm .* a rank \(itc mode fiber\)"],
            {"batch.global": 2,
             "objectives.list": "[{type: itc, mode: fiber, queue: 8}, {type: itm}]"})
    refused("retrieval without its features",
            [r"--set data.eval_sets=.*: data.eval_sets: .*add the objective itc"],
            {"objectives.list": "[{type: mlm}]", "data.eval_sets": "[{path: none.h5}]"}, ranks=None)
    refused("a run without a name", [r"--set run=\"\": run has 0 characters"], {"run": '""'},
            ranks=None)
    refused("itc behind itm", [r"itc comes after itm; .*put itc first"],
            {"objectives.list": "[{type: itm}, {type: itc}]"}, ranks=None)


def data():
    place.weft("pack", "scenes", "--size", "64", "--count", "24", "--captions", "0", "-q", "-o",
               "silent-%05d.h5")
    refused("a set without captions",
            [r"recipe.yaml:\d+:\d+: data.*holds 24 pictures and no texts; pack it with"],
            recipe=RECIPE.replace("scenes-*.h5", "silent-*.h5"))
    refused("a set that is not there", [r"recipe.yaml:\d+:\d+: data.sets.0: none-\*.h5: no such"],
            recipe=RECIPE.replace("scenes-*.h5", "none-*.h5"), ranks=None)
    refused("an evaluation set that is not there", [r"data.eval_sets.0: none.h5: no such file"],
            {"data.eval_sets": "[{path: none.h5}]"}, ranks=None)
    refused("a batch larger than the set",
            [r"recipe.yaml:\d+:\d+: data: .*96 samples, fewer than one global batch of 120; lower"],
            {"batch.global": 120})
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "blue"]
    place.write("vocab.txt", "\n".join(words) + "\n")
    refused("a tokenizer with another padding",
            [r"recipe.yaml:\d+:\d+: the tokenizer vocab.txt pads with id 0, but model.family fiber "
             r"takes 1"], recipe=RECIPE.replace("path: tokenizer", "path: vocab.txt"))
    refused("a tokenizer that is not there", [r"recipe.yaml:\d+:\d+: .*nowhere"],
            recipe=RECIPE.replace("path: tokenizer", "path: nowhere"))


def damaged_picture():
    """A picture whose bytes have changed, met by one rank in the middle of the run."""
    with open(place.path("scenes-00000.h5"), "rb") as file:
        packed = bytearray(file.read())
    at = [found.start() for found in re.finditer(b"\x89PNG", packed)][40]
    packed[at + 200] ^= 0xFF
    with open(place.path("harmed-00000.h5"), "wb") as file:
        file.write(packed)
    settings = {"data.sets.0.path": "harmed-*.h5", "train.steps": 9, "checkpoint.every": 1}
    result = place.train(2, "harmed", settings)
    place.case(result.code == 1 and "harmed-00000.h5: image 40 ('scene-0-2-40'): the picture's "
               "bytes are damaged" in result.said and "data.on_bad" in result.said,
               "a damaged picture stops all ranks", result.code, result.said)
    done = max(place.steps("harmed"))
    settings["data.on_bad"] = "replace"
    two = place.trained(2, "harmed", settings)
    starts = [line["step"] for line in place.lines("harmed") if line["kind"] == "start"]
    place.case(starts in ([0, done - 1], [0, done]),  # the last save may have been under way
               "the run goes on with on_bad: replace", starts, done)
    one = place.trained(None, "replaced", settings)
    error = largest_error(one, two, range(1, 10))
    place.case(error < 1e-5, f"any ranks replace it by the same: {error:.1e}")


def weights():
    name = "text_transformer.embeddings.word_embeddings.weight"
    place.write_weights("wide.safetensors", name, [400, 32], {})
    allow = '["*"]'
    refused("weights of another vocabulary",
            [r"--set train.init_from=.*wide.safetensors: .*\[400,32\] there and \[300,32\] in the"],
            {"train.init_from": "wide.safetensors", "train.init_allow": allow})
    place.write_weights("part.safetensors", name, [300, 32], {})
    refused("weights that lack most", [r"missing 'vit_model.patch_embed.proj.weight'.*and \d+ more;"
                                       r" allow"], {"train.init_from": "part.safetensors"})
    refused("weights that are not there", [r"train.init_from: none.safetensors: cannot open"],
            {"train.init_from": "none.safetensors"}, ranks=None)
    table = "vit_model.layers.0.blocks.0.attn.relative_position_bias_table"
    place.write_weights("table.safetensors", table, [49, 1], {})
    result = place.train(2, "resized", {"train.init_from": "table.safetensors", "train.steps": 1,
                                        "train.init_allow": allow})
    place.case(result.code == 0 and "0 loaded, 1 resized" in result.said
               and f"resized  {table} [49,1] -> [9,1]" in result.said,
               "a table of another window is resized, and told", result.said)
    place.write_weights("more.safetensors", "module.other.weight", [2, 2], {})
    result = place.train(2, "unused", {"train.init_from": "more.safetensors", "train.steps": 1,
                                       "train.init_allow": allow})
    place.case(result.code == 0 and "0 loaded, 0 resized" in result.said
               and "unused   module.other.weight" in result.said,
               "missing and unused names that are allowed are told", result.said)
    place.trained(None, "source", {"train.steps": 3, "checkpoint.every": 3})
    place.trained(2, "copy", {"train.steps": 1, "train.init_from": "source", "train.seed": 9,
                              "optimizer.lr": "1e-12"})
    again = place.train(2, "other", {"train.steps": 1, "train.init_from":
                                     "copy/checkpoints/step-00000001.h5"})
    place.case(again.code == 0 and " 0 missing, 0 unused" in again.said,
               "weights of a run start another", again.said)


def resuming():
    settings = {"train.steps": 4, "checkpoint.every": 2}
    place.trained(2, "run", settings)
    more = {**settings, "train.steps": 6}
    newest = "run/checkpoints/step-00000004.h5"
    refused("--resume never with a run", [r"^\S* ?error: run: holds a run already, .*--resume auto"],
            more, ["--resume", "never"], run="run")
    refused("--resume of nothing", [r"nowhere: cannot find a checkpoint there"], more,
            ["--resume", "nowhere"])
    refused("--resume of a file that is no checkpoint", [r"recipe.yaml: not a complete checkpoint"],
            more, ["--resume", "recipe.yaml"], code=1)
    refused("another width", [newest + r": was saved with another model than recipe.yaml has: model "
                              r"\(hidden: 64, saved with hidden: 32\); give its config"],
            {**more, "model.hidden": 64}, run="run")
    refused("another learning rate, seed and batch",
            [newest + r": .*optimizer \(lr: 0.5, saved with lr: 0.001\), batch.global \(24, saved "
             r"with 12\), train.seed \(3, saved with 0\)\. .*--allow-changes"],
            {**more, "optimizer.lr": 0.5, "train.seed": 3, "batch.global": 24}, run="run")
    refused("another precision", [r"train.precision \(bf16, saved with f32\)"],
            {**more, "train.precision": "bf16"}, run="run")
    place.weft("pack", "scenes", "--size", "64", "--count", "96", "--seed", "5", "-q", "-o",
               "others-%05d.h5")
    refused("other pictures", [newest + r": was saved with other data sets"], more, run="run",
            recipe=RECIPE.replace("scenes-*.h5", "others-*.h5"))
    refused("another division into micro-batches",
            [newest + r": .*micro-batches of 12 samples .*, now they have 6 = 2 ranks x 3; set"],
            {**more, "batch.accumulate": 2}, run="run")
    place.trained(2, "own", {**settings, "train.steps": 2})
    refused("--resume PATH into a run with checkpoints", [r"own: has checkpoints of its own, and "
            r"--resume run would .*--resume auto"], more, ["--resume", "run"], run="own")


def survived():
    """Changes that a run may go on with."""
    whole = place.trained(2, "straight", {"train.steps": 8})
    os.mkdir(place.path("moved"))
    shutil.copy(place.path("scenes-00000.h5"), place.path("moved/pictures-00000.h5"))
    shutil.copytree(place.path("tokenizer"), place.path("moved/tokenizer"))
    steps = place.trained(2, "run", {"train.steps": 6, "checkpoint.every": 2,
                                     "data.sets.0.path": "moved/pictures-*.h5",
                                     "tokenizer.path": "moved/tokenizer"})
    different = first_difference(whole, steps, range(1, 7))
    place.case(not different, "data and tokenizer may move", different)
    result = place.train(2, "run", {"train.steps": 8, "optimizer.lr": 0.5}, ["--allow-changes"])
    place.case(result.code == 0 and "continuing with changed settings: optimizer" in result.said,
               "--allow-changes goes on, and tells", result.said)
    result = place.train(2, "run", {"train.steps": 8, "optimizer.lr": 0.5})
    place.case(result.code == 0 and "the run is finished" in result.said,
               "a run that is finished has nothing to train", result.said)
    steps = place.trained(2, "back", {"train.steps": 8},
                          ["--resume", "run/checkpoints/step-00000004.h5"])
    different = first_difference(whole, steps, range(5, 9))
    place.case(not different, "--resume PATH starts another run from there", different)
    result = place.train(2, "run", {"train.steps": 8},
                         ["--resume", "run/checkpoints/step-00000006.h5"])
    different = first_difference(whole, place.steps("run"), range(1, 9))
    place.case(result.code == 0 and not different and "aside" in result.said,
               "--resume PATH goes back within a run; what is later is put aside", result.said,
               different)


def locked():
    """Two jobs, one run."""
    process = place.start(place.command(2, "busy", {"train.steps": 100000}))
    place.wait_for_step(process, "busy", 1)
    result = place.train(2, "busy", {"train.steps": 100000})
    errors = [line for line in result.said.splitlines() if "error: " in line]
    place.case(result.code == 2 and len(errors) == 1 and "busy" in errors[0]
               and process.poll() is None, "a run that another job is writing", result.code,
               result.said)
    os.kill(place.ranks_of(process)[0], 10)
    place.case(place.finish(process).code == 75, "that job goes on unharmed")


if not SANITIZER:
    recipes()
data()
damaged_picture()
weights()
resuming()
survived()
locked()
place.end()
