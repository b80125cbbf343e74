"""What a finished run leaves: its report, and a log that says which weft made it.
timeout=60 alone=yes
"""

import os
import re
import subprocess

from train_fixture import WEFT, Place

place = Place()
place.weft("pack", "scenes", "--size", "64", "--count", "9", "--split", "val", "-q", "-o",
           "few-%05d.h5")
SETTINGS = {"train.steps": 4, "checkpoint.every": 2, "data.eval_sets": '[{path: "few-*.h5"}]'}


def page(run):
    with open(place.path(run, "report.html"), encoding="utf-8") as file:
        return file.read()


def report():
    done = place.train(2, "run", SETTINGS)
    place.case(done.code == 0 and "report: run/report.html" in done.said
               and len(page("run")) > 10000 and "finished" in page("run"),
               "a finished run has its report", done.said)
    place.case(place.lines("run")[-1]["kind"] == "end", "the log ends with the end")
    # A folder in its place: nobody can write there, root included.
    os.remove(place.path("run", "report.html"))
    os.makedirs(place.path("run", "report.html", "in-the-way"))
    done = place.train(2, "run", {**SETTINGS, "train.steps": 6})
    place.case(done.code == 0 and done.said.count("warning:") == 1
               and "no report of the run: " in done.said and "run/report.html: Is a dir" in done.said
               and 6 in place.steps("run"), "a report that cannot be written loses no run",
               done.code, done.said)


def build():
    said = place.weft("version").splitlines()[0]
    starts = [line["build"] for line in place.lines("run") if line["kind"] == "start"]
    place.case(starts == [said, said], "the log has the build", starts, said)
    place.case(re.fullmatch(r"weft \d+\.\d+\.\d+(, git \S+)?, (gcc|clang) \d+\.[^,]*, \w+", said),
               "version, checkout, compiler and instruction set", said)
    if os.path.exists(".git"):
        place.case(", git " in said, "built in a checkout", said)
    environment = dict(place.environment, WEFT_ISA="scalar")
    scalar = subprocess.run([WEFT, "version"], env=environment, capture_output=True, text=True,
                            check=True).stdout
    place.case(scalar.splitlines()[0].endswith(", scalar"), "the instruction set in use", scalar)


report()
build()
place.end()
