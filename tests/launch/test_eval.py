"""weft eval and weft infer on a small trained model: the numbers of training again, the same on any
number of ranks, scores of files that agree with recall, and what is refused.   timeout=120 alone=yes
"""

import json
import os
import shutil
import subprocess

from train_fixture import WEFT, Place

place = Place()
place.weft("pack", "scenes", "--size", "64", "--count", "17", "--captions", "2", "--split", "test",
           "-q", "-o", "test-%05d.h5")
place.weft("pack", "scenes", "--size", "64", "--count", "7", "--split", "val", "-q", "-o",
           "few-%05d.h5")
place.trained(2, "run", {
    "train.steps": 8,
    "data.eval_sets": '[{path: "test-*.h5"}]',
    "optimizer.ema_decay": 0.5,
    "eval.batch": 4,
    "eval.rerank": 5,
})


def weft(*arguments, ranks=None):
    command = ["mpirun", "-q", "-np", str(ranks)] if ranks else []
    return subprocess.run([*command, WEFT, *arguments], cwd=place.folder, env=place.environment,
                          capture_output=True, text=True, check=False, timeout=100)


def read(name):
    with open(place.path(name), encoding="utf-8") as file:
        return json.load(file)


def refused(name, code, text, *arguments, ranks=None):
    done = weft(*arguments, ranks=ranks)
    good = done.returncode == code and text in done.stderr
    place.case(good, name, f"exit {done.returncode}", done.stderr)


def numbers_of_training():
    path = "run/eval/step-00000008.json"
    trained = read(path)
    os.rename(place.path(path), place.path("trained.json"))
    done = weft("eval", "run")
    again = read(path)
    place.case(done.returncode == 0 and again == trained, "the file of training again", done.stderr)
    lines = done.stdout.splitlines()
    place.case(any("split      eval: test-*.h5, 17 pictures, 34 texts" in line for line in lines),
               "split and sizes are printed", done.stdout)
    shown = [line.split() for line in lines if line.startswith(("features", "matching  "))]
    wanted = [[group] + [f"{100 * trained['metrics'][f'{name}/{k}']:.2f}" for k in
                         ("tr@1", "tr@5", "tr@10", "ir@1", "ir@5", "ir@10")]
              for group, name in (("features", "dual"), ("matching", "itm"))]
    place.case(shown == wanted, "recalls are printed as percent", done.stdout)
    one = weft("eval", "run", "--json")
    place.case(json.loads(one.stdout) == trained, "--json prints the file", one.stderr)
    three = weft("eval", "run", "--json", ranks=3)
    place.case(json.loads(three.stdout)["metrics"] == trained["metrics"], "three ranks give the same numbers",
               three.stdout, three.stderr)
    batch = weft("eval", "run", "--json", "--set", "eval.batch=1", "--output", "one.json")
    place.case(json.loads(batch.stdout)["metrics"] == trained["metrics"], "and so does a batch of one",
               batch.stderr)


def other_sets():
    done = weft("eval", "run/checkpoints/step-00000008.h5", "--sets", "few-*.h5", "--rerank", "0",
                ranks=3)
    result = read("run/eval/step-00000008-sets.json")
    place.case(done.returncode == 0 and result["images"] == 7 and result["split"] == "sets"
               and result["rerank"] == 0, "other sets, one checkpoint, three ranks", done.stderr)
    names = set(name.split("/")[0] for name in result["metrics"])
    place.case(names == {"dual"}, "--rerank 0 leaves matching out", names)
    average = weft("eval", "run", "--ema", "--json")
    plain = read("trained.json")
    place.case(average.returncode == 0 and json.loads(average.stdout)["split"] == "eval-ema"
               and json.loads(average.stdout)["examples"] != plain["examples"],
               "the moving average is another model", average.stderr)
    os.rename(place.path("scenes-00000.h5"), place.path("away.h5"))
    done = weft("eval", "run", "--output", "x.json")
    os.rename(place.path("away.h5"), place.path("scenes-00000.h5"))
    place.case(done.returncode == 0, "data to train on need not be there", done.stderr)


def one_picture():
    place.weft("pack", "scenes", "--size", "64", "--count", "1", "--captions", "3", "--split", "val",
               "-q", "-o", "single-%05d.h5")
    done = weft("eval", "run", "--sets", "single-*.h5", "--output", "single.json", ranks=2)
    metrics = read("single.json")["metrics"] if done.returncode == 0 else {}
    place.case("of true pairs; there are no wrong ones, as there is one picture" in done.stdout
               and "% of wrong" not in done.stdout, "one picture: there are no wrong pairs",
               done.stdout, done.stderr)
    place.case("itm/accuracy_match" in metrics and metrics["itm/tr@1"] == 1
               and not {"itm/accuracy", "itm/accuracy_random", "itm/accuracy_hard"} & set(metrics),
               "and no numbers of them", metrics)


def scores_of_files():
    """Pictures out of the packed set as files; recall of their similarities is that of eval."""
    try:
        import h5py
    except ImportError:
        place.number += 1
        print(f"ok {place.number} - recall from files # SKIP python3 has no h5py")
        return
    with h5py.File(place.path("test-00000.h5")) as file:
        bounds, data = file["images/offset"][:], file["images/bytes"][:]
        for i in range(17):
            with open(place.path(f"{i}.png"), "wb") as out:
                out.write(bytes(data[bounds[i]:bounds[i + 1]]))
        bounds, data = file["texts/offset"][:], file["texts/bytes"][:]
        texts = [bytes(data[bounds[i]:bounds[i + 1]]).decode() for i in range(34)]
        owner = [int(i) for i in file["texts/image"][:]]
    done = weft("infer", "-c", "run", *[f"{i}.png" for i in range(17)],
                *[f"--text={text}" for text in texts], "--batch", "5")
    result = json.loads(done.stdout)
    scores = [[pair["similarity"] for pair in image["scores"]] for image in result["images"]]
    place.case([text["text"] for text in result["texts"]] == texts and len(scores) == 17
               and done.returncode == 0, "every picture with every text", done.stderr)
    metrics = read("trained.json")["metrics"]
    wrong = []
    for k in (1, 5, 10):
        hits = 0
        for image in range(17):
            order = sorted(range(34), key=lambda text, image=image: -scores[image][text])
            hits += any(owner[text] == image for text in order[:k])
        if abs(hits / 17 - metrics[f"dual/tr@{k}"]) > 1e-9:
            wrong.append(f"tr@{k}: {hits / 17}, not {metrics[f'dual/tr@{k}']}")
        hits = 0
        for text in range(34):
            order = sorted(range(17), key=lambda image, text=text: -scores[image][text])
            hits += owner[text] in order[:k]
        if abs(hits / 34 - metrics[f"dual/ir@{k}"]) > 1e-9:
            wrong.append(f"ir@{k}: {hits / 34}, not {metrics[f'dual/ir@{k}']}")
    place.case(not wrong, "their recall by a plain sort is that of weft eval", *wrong)
    match = [pair["match"] for image in result["images"] for pair in image["scores"]]
    place.case(all(0 < value < 1 for value in match) and len(set(match)) > 100,
               "probabilities of a match")
    one = json.loads(weft("infer", "-c", "run", "3.png", "-t", texts[5], "--batch", "1").stdout)
    place.case(one["images"][0]["scores"][0] == result["images"][3]["scores"][5],
               "a pair alone has the same scores", one)
    shutil.copy(place.path("test-00000.h5"), place.path("damaged-00000.h5"))
    with h5py.File(place.path("damaged-00000.h5"), "r+") as file:
        file["images/bytes"][int(file["images/offset"][4]) + 40] ^= 1
    refused("a damaged picture is not replaced by another", 1, "damaged-00000.h5: image 4", "eval",
            "run", "--sets", "damaged-*.h5", ranks=3)
    settings = {"train.steps": 4, "eval.every": 2, "data.eval_sets": '[{path: "damaged-*.h5"}]'}
    done = place.train(2, "damaged", settings)
    warned = [line for line in place.lines("damaged") if line["kind"] == "warning"]
    place.case(done.code == 1 and len(place.steps("damaged")) == 4
               and "damaged-00000.h5: image 4" in str(warned),
               "in training it is told, and training goes on; the run fails at its end", done.said,
               warned)
    place.write("text.jpg", "not a picture")
    place.write("empty.png", "")
    done = weft("infer", "-c", "run", "1.png", "text.jpg", "empty.png", "nowhere.png", ".", "2.png",
                "-t", texts[0])
    images = json.loads(done.stdout)["images"]
    place.case(done.returncode == 1 and images[0]["scores"][0] == result["images"][1]["scores"][0]
               and images[5]["scores"][0] == result["images"][2]["scores"][0],
               "bad files do not keep others from their scores", done.stdout, done.stderr)
    reasons = [image.get("error", "") for image in images]
    place.case("is no JPEG, PNG or WebP" in reasons[1] and "empty" in reasons[2]
               and "No such file" in reasons[3] and "is not a file" in reasons[4]
               and "text.jpg: is no JPEG" in done.stderr, "each bad file has its reason", reasons)
    long = json.loads(weft("infer", "-c", "run", "1.png", "-t", "a red ring " * 20).stdout)
    place.case(long["texts"][0]["truncated"] and long["texts"][0]["tokens"] == 16,
               "a text that was cut off says so", long["texts"])


def refusals():
    refused("no checkpoint there", 2, "nowhere: cannot find a checkpoint", "eval", "nowhere")
    refused("a set that is not there", 2, "none-*.h5: no such file", "eval", "run", "--sets",
            "none-*.h5", ranks=2)
    refused("a number that is none", 2, "eval.rerank: 'many' is not a number", "eval", "run",
            "--rerank", "many")
    refused("an unknown key", 2, "did you mean 'rerank'", "eval", "run", "--set", "eval.rernk=1")
    refused("nothing to evaluate on", 2, "data.eval_sets is empty", "eval", "run", "--set",
            "data.eval_sets=[]")
    refused("another model than was trained", 2, "text_transformer", "eval", "run", "--set",
            "model.hidden=16")
    refused("a place that cannot be written to", 1, "nowhere/x.json", "eval", "run", "--output",
            "nowhere/x.json")
    place.weft("tokenizer", "train", "--vocab-size", "280", "-o", "other", "few-00000.h5")
    refused("another tokenizer", 2, "another tokenizer than other", "infer", "-c", "run", "x.png",
            "-t", "x", "--set", "tokenizer.path=other")
    refused("no model", 2, "give --checkpoint", "infer", "x.png", "-t", "x")
    refused("no texts", 2, "give --text", "infer", "-c", "run", "x.png")
    refused("no pictures", 2, "which pictures?", "infer", "-c", "run", "-t", "x")
    refused("a text that is not UTF-8", 2, "text 2: the text is not UTF-8", "infer", "-c", "run",
            "x.png", "-t", "x", "-t", b"\xff".decode("utf-8", "surrogateescape"))
    refused("a batch of none", 2, "--batch 0: expected", "infer", "-c", "run", "x.png", "-t", "x",
            "--batch", "0")
    place.trained(None, "words", {"train.steps": 1, "objectives.list": "[{type: mlm}]"})
    refused("a model without features", 2, "add the objective itc", "eval", "words", "--sets",
            "few-*.h5")
    refused("a model without scores", 2, "has no scores of pairs", "infer", "-c", "words", "x.png",
            "-t", "x")
    place.trained(None, "lost", {"train.steps": 2, "optimizer.lr": "1e30"})
    refused("a model that diverged", 1, "a feature of a picture is not finite", "eval", "lost",
            "--sets", "few-*.h5", ranks=2)
    refused("also for files", 1, "a score is not finite", "infer", "-c", "lost", "1.png", "-t", "x")
    refused("no moving average", 2, "has no moving average", "eval", "words", "--ema")
    with open(place.path("words/checkpoints/step-00000001.h5"), "r+b") as file:
        file.seek(100000)
        byte = file.read(1)
        file.seek(100000)
        file.write(bytes([byte[0] ^ 1]))
    refused("a damaged checkpoint", 1, "step-00000001.h5", "eval", "words")


numbers_of_training()
other_sets()
one_picture()
scores_of_files()
refusals()
place.end()
