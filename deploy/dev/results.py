#!/usr/bin/env python3
"""Runs the small trainings and writes docs/results.md.

    deploy/dev/results.py                 all of them, one after the other, with the programs of build/release
    deploy/dev/results.py --build build/dev copying-delta recall-delta
                                          some of them; what is known of the others stays
    deploy/dev/results.py --list          their names
    deploy/dev/results.py --page          writes the page from docs/results/records.json
    deploy/dev/results.py --check         exit status 1 when the page is not what would be written

What is run stands in docs/results/trainings.json: sections with jobs, changes of them (`weft run JOB --set ...`), and
what each must reach. What came out is kept in docs/results/records.json. Nothing else runs beside a training.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs/results"
PAGE = ROOT / "docs/results.md"


def load(name, default=None):
    path = FOLDER / name
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() or default is None else default


def command_of(run):
    settings = "".join(f" --set {shlex.quote(setting)}" for setting in run.get("set", []))
    return f"weft run docs/results/{run['job']}.yaml{settings}"


def measured(job):
    """What a finished job says of itself."""
    step = job["last_step"]
    found = {"steps": int(step["step"]), "seed": int(job["spec"]["training"].get("seed", 0)),
             "validation_loss": job["validation_loss"], "weights": job["weights_hash"][:16]}
    for prefix, metrics in (("", job.get("validation_metrics", [])), ("training_", step.get("metrics", []))):
        found.update({prefix + metric["name"]: metric.get("value", 0.0) for metric in metrics if "layer" not in metric})
    return found


def train(run, build):
    """The record of one training; None when it failed."""
    with tempfile.TemporaryDirectory() as state:
        arguments = shlex.split(command_of(run))[1:]
        environment = dict(os.environ, WEFT_STATE_DIR=state)
        done = subprocess.run([str(build / "bin/weft"), *arguments, "--state-dir", state, "--workers", "1", "-o", "json"],
                              cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        print(f"{run['name']} failed with {done.returncode}", file=sys.stderr)
        return None
    return measured(json.loads(done.stdout))


def holds(run, record, records):
    """Whether the record reaches the run's goal."""
    goal = run["goal"]
    value = record.get(goal["metric"])
    if value is None:
        return False
    if "at_least" in goal:
        return value >= goal["at_least"]
    if "at_most" in goal:
        return value <= goal["at_most"]
    other = records.get(goal["equal_to"], {}).get(goal["metric"])
    return other is not None and abs(value - other) <= goal["within"] * abs(other)


def words(goal):
    name = goal["metric"].replace("_", " ")
    if "at_least" in goal:
        return f"{name} at least {goal['at_least']:g}"
    if "at_most" in goal:
        return f"{name} at most {goal['at_most']:g}"
    return f"{name} of {goal['equal_to']}, within {goal['within']:g} of it"


def row(run, record, records):
    if record is None:
        return f"| {run['name']} | {words(run['goal'])} | not run | | | |"
    value = record.get(run["goal"]["metric"])
    shown = "none" if value is None else f"{value:.4f}"
    if holds(run, record, records):
        verdict = f"{shown}: reached"
    else:
        verdict = f"{shown}: **falls short**. {run.get('why', 'No reason is known yet.')}"
    return (f"| {run['name']} | {words(run['goal'])} | {verdict} | {record['validation_loss']:.4f} | {record['steps']} "
            f"| {record['seed']} |")


def page(trainings, records):
    out = [trainings["title"], "", trainings["about"]]
    for section in trainings["sections"]:
        out += ["", f"## {section['title']}", "", section["about"], "",
                "| training | goal | measured | validation loss | steps | seed |", "|---|---|---|---|---|---|"]
        out += [row(run, records.get(run["name"]), records) for run in section["runs"]]
        out += ["", "```"] + [command_of(run) for run in section["runs"]] + ["```"]
    return "\n".join(out) + "\n"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", type=Path, default=ROOT / "build/release")
    for flag in ("--list", "--page", "--check"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    trainings, records = load("trainings.json"), load("records.json", {})
    runs = {run["name"]: run for section in trainings["sections"] for run in section["runs"]}
    if arguments.list:
        print("\n".join(runs))
        return 0
    if arguments.check:
        if not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != page(trainings, records):
            print("docs/results.md is not what docs/results says; run deploy/dev/results.py --page")
            return 1
        return 0
    failed = 0
    for name in [] if arguments.page else arguments.names or runs:
        record = train(runs[name], arguments.build.resolve())
        failed += record is None
        if record is not None:
            records[name] = record
            (FOLDER / "records.json").write_text(json.dumps(records, indent=1, sort_keys=True) + "\n", encoding="utf-8")
            print(f"{name}: {words(runs[name]['goal'])}: {record}", flush=True)
    PAGE.write_text(page(trainings, records), encoding="utf-8")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
