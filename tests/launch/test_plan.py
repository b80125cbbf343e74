"""weft plan: what a run takes, without data and without the memory of a step.   timeout=120
"""

import json
import resource
import subprocess
import time

from train_fixture import SANITIZER, WEFT, Place

BASE = """\
run: nowhere
model: {family: fiber}
data: {sets: [{path: nowhere}], image_size: 384, max_text_len: 40}
tokenizer: {path: nowhere}
objectives: {list: [{type: mlm}, {type: itc}, {type: itm}]}
batch: {global: 4, micro: 2}
optimizer: {lr: 1e-5}
train: {steps: 10}
"""
NUM_PARAMETERS = 281897191

place = Place()
place.write("base.yaml", BASE)


def weft(*arguments):
    return subprocess.run([WEFT, "plan", *arguments], cwd=place.folder, env=place.environment,
                          capture_output=True, text=True, check=False, timeout=100)


def plan(config, *arguments):
    done = weft(config, "--json", *arguments)
    if done.returncode != 0:
        place.close()
        raise SystemExit(f"Bail out! {arguments}: {done.stderr}")
    return json.loads(done.stdout)


def refused(name, text, *arguments):
    done = weft(*arguments)
    place.case(done.returncode == 2 and text in done.stderr, name, f"exit {done.returncode}",
               done.stderr)


def fiber_base():
    start = time.time()
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    base = plan("base.yaml", "--no-probe", "--set", "batch.global=2")
    seconds = time.time() - start
    used = max(before, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 1024
    print(f"# planned in {seconds:.1f} s with {used:.0f} MiB")
    place.case(SANITIZER or (seconds < 30 and used < 400), "FIBER-Base is planned in little",
               f"{seconds:.1f} s, {used:.0f} MiB")
    parameters = base["parameters"]
    place.case(parameters["all"] == NUM_PARAMETERS
               and sum(parameters["modules"].values()) == NUM_PARAMETERS
               and parameters["frozen"] == 601351, "its parameters", parameters)
    memory = base["memory"]
    classes = {name: size for name, size in memory.items()
               if name not in ("peak", "checkpoint_staging")}
    place.case(memory["peak"] == sum(classes.values()), "the peak is the sum of its classes", memory)
    place.case(4 * NUM_PARAMETERS <= memory["parameters"] < 4.01 * NUM_PARAMETERS
               and memory["gradients"] == memory["parameters"]
               and memory["moments"] == 2 * memory["parameters"] and memory["ema"] == 0,
               "vectors as long as the parameters", memory)
    place.case(memory["peak"] < 8e9, "at most 8 GB in f32", memory)
    flops = base["micro_batch"]["flops"]
    place.case(flops["executed"] == flops["distinct"] and 1e12 < flops["executed"] < 2e12,
               "FLOPs of two samples", flops)
    blocks = plan("base.yaml", "--no-probe", "--set", "batch.global=2", "--set",
                  "train.precision=bf16", "--set", "train.recompute=blocks")
    more = blocks["micro_batch"]["flops"]
    place.case(abs(more["distinct"] / flops["distinct"] - 1) < 1e-3
               and more["executed"] > 1.1 * flops["executed"]
               and 5 * blocks["memory"]["activations"] < memory["activations"],
               "recomputed blocks: more FLOPs, less memory", more, blocks["memory"])
    place.case(blocks["memory"]["casts"] > 0.4e9 and blocks["memory"]["peak"] < 6e9,
               "bf16: casts of parameters; at most 6 GB", blocks["memory"])


def ranks_and_options():
    one = plan("recipe.yaml", "--no-probe")
    place.case(one["communication"] == {"gradients": 0, "parameters": 0, "step": 0},
               "one rank hands nothing on", one["communication"])
    four = plan("recipe.yaml", "--no-probe", "--ranks", "4", "--set", "optimizer.ema_decay=0.9")
    size = one["memory"]["gradients"]
    place.case(four["micro"] == 3 and four["communication"]["gradients"] == 2 * 3 / 4 * size
               and four["communication"]["step"] > 0 and four["memory"]["ema"] == size,
               "four ranks: gradients there and back", four["communication"], four["memory"])
    shard = plan("recipe.yaml", "--no-probe", "--ranks", "4", "--set", "optimizer.shard=true")
    place.case(shard["memory"]["moments"] * 4 == one["memory"]["moments"]
               and shard["communication"]["gradients"] == shard["communication"]["parameters"]
               == 3 / 4 * size, "sharded moments", shard["communication"], shard["memory"])
    queue = plan("recipe.yaml", "--no-probe", "--set",
                 "objectives.list=[{type: itc, mode: fiber, queue: 100}]")
    row = 2 * 32 * 4 + 8
    place.case(queue["memory"]["queue"] == 100 * 8 + 12 * row
               and queue["memory"]["inputs"] >= 100 * row, "a queue of features, counted once",
               queue["memory"])
    half = plan("recipe.yaml", "--no-probe", "--set", "batch.micro=3")
    place.case(half["accumulate"] == 4 and half["micro"] == 3
               and half["memory"]["loader"] < one["memory"]["loader"], "accumulation", half)
    probed = plan("recipe.yaml", "--threads", "1")
    probe, seconds = probed["probe"], probed["seconds"]
    place.case(probe["flops_per_s"] > 1e8 and probe["triad_bytes_per_s"] > 1e8
               and probe["dtype"] == "f32" and 0 < seconds["pass"] < 10
               and abs(seconds["all"] - seconds["pass"] - seconds["update"]) < 1e-5,
               "the machine is measured", probe, seconds)
    place.case("probe" not in one and "seconds" not in one, "and is not with --no-probe")


def texts():
    done = weft("recipe.yaml")
    wanted = ("parameters by module", "text_transformer", "memory of a rank", "peak", "executed",
              "communication of a rank", "measured now: f32 product", "GB/s", "a sample")
    missing = [text for text in wanted if text not in done.stdout]
    place.case(done.returncode == 0 and not missing, "the text has all parts", missing, done.stdout)
    detail = weft("recipe.yaml", "--no-probe", "--detail")
    steps = plan("recipe.yaml", "--no-probe", "--detail")["micro_batch"]["steps"]
    place.case(detail.stdout.count(" MFLOP ") + detail.stdout.count("store gradient") == len(steps)
               and "activations are largest at step" in detail.stdout,
               "--detail has a line for every op", len(steps))


def refusals():
    refused("ranks that do not divide", "batch.global 12 is not ranks 5 x micro 2", "recipe.yaml",
            "--ranks", "5")
    refused("no ranks", "--ranks 0: expected", "recipe.yaml", "--ranks", "0")
    refused("an unknown key", "did you mean 'micro'", "recipe.yaml", "--set", "batch.mikro=1")
    refused("no such file", "nothing.yaml", "nothing.yaml")
    refused("sizes that do not fit", "data.image_size is 64", "recipe.yaml", "--set",
            "data.image_size=64")
    refused("heads that do not divide", "heads", "recipe.yaml", "--set", "model.text_heads=3")
    done = weft("recipe.yaml", "--no-probe", "--detail", "--set",
                "optimizer.groups=[{match: [itm_scor], lr: 5}]")
    place.case("itm_score.fc.weight" in done.stdout and done.returncode == 0
               and " 5  " in next(line for line in done.stdout.splitlines()
                                    if "itm_score.fc.weight  " in line),
               "--detail lists names with their multipliers", done.stdout[-3000:], done.stderr)
    refused("a group that matches nothing", "'itm_sore' is found in no parameter name",
            "recipe.yaml", "--no-probe", "--set", "optimizer.groups=[{match: [itm_sore], lr: 5}]")
    refused("no config", "usage: weft plan CONFIG")


fiber_base()
ranks_and_options()
texts()
refusals()
place.end()
