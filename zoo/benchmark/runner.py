"""Runs a benchmark: every run in a process of its own folder, one JSON line each; what is there already is kept."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import multiprocessing
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from zoo import strict_yaml
from zoo.benchmark.suite import Run, Suite
from zoo.commands.recipes import find
from zoo.core.errors import ZooError

RECORDS = "records.jsonl"
Record = dict[str, Any]


def read_records(folder: Path) -> list[Record]:
    """The records of a benchmark's folder; none if it has not begun."""
    path = folder / RECORDS
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.is_file() else []


def run(suite: Suite, folder: Path, jobs: int) -> Iterator[Record]:
    """Make the runs that have no record yet, `jobs` at a time, and append each to `folder`/records.jsonl when it ends.

    Every run has one thread, so that its numbers do not depend on how many run beside it.

    Raises:
        ZooError: when a run fails, with the end of what it printed; records of the others stay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    records = {(record["method"], record["setting"], record["seed"]): record for record in read_records(folder)}
    for run in suite.runs():
        made = records.get(run.key)
        if made and (made["asked"], made["versions"]) != (_asked(run), _versions()):
            raise ZooError(
                f"{folder / RECORDS} holds {', '.join(map(str, run.key))} made by another recipe or other versions. "
                "Choose another folder, or delete the old records."
            )
    left = [run for run in suite.runs() if run.key not in records]
    data = Path(os.environ.get("ZOO_DATA") or "data").absolute()
    context = multiprocessing.get_context("spawn")
    with context.Pool(jobs, initializer=_prepare, initargs=(str(data),)) as pool:
        for record in pool.imap_unordered(_run, left):
            if "error" in record:
                raise ZooError(f"{record['method']}, {record['setting']}, seed {record['seed']}: {record['error']}")
            with (folder / RECORDS).open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
            yield record


def _prepare(data: str) -> None:
    os.environ["ZOO_DATA"] = data
    import torch

    torch.set_num_threads(1)


def _run(run: Run) -> Record:
    from zoo.cli import main

    about = {"method": run.method, "setting": run.setting, "seed": run.seed}
    options = [f"--{key}={value}" for key, value in {**run.options, "seed_everything": run.seed}.items()]
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        printed = Path("printed.txt")
        with printed.open("w") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
            try:
                main(["fit", "-c", run.recipe, *options])
                main(["test", "-c", run.recipe, *options, f"--ckpt_path={run.checkpoint}"])
            except SystemExit:
                file.flush()
                return about | {"error": printed.read_text().strip().splitlines()[-1]}
        trained, tested = sorted(Path("runs").glob("*/*/version_*"))
        with (tested / "metrics.csv").open() as file:
            rows = list(csv.DictReader(file))
        metrics = {key: float(row[key]) for row in rows for key in row if key.startswith("test/") and row[key]}
        recipe = strict_yaml.read(trained / "recipe.yaml")
    seconds = round(time.perf_counter() - began, 1)
    return about | {
        "metrics": metrics,
        "seconds": seconds,
        "asked": _asked(run),
        "versions": _versions(),
        "recipe": recipe,
    }


def _asked(run: Run) -> Record:
    """What was run, as far as it can be told before."""
    text = find(run.recipe).read_bytes()
    digest = hashlib.sha256(text).hexdigest()
    return {"recipe": run.recipe, "sha256": digest, "options": run.options, "checkpoint": run.checkpoint}


def _versions() -> dict[str, str]:
    packages = {name: version(name) for name in ("multimodal-zoo", "torch", "lightning", "torchmetrics", "numpy")}
    return packages | {"python": platform.python_version(), "machine": platform.machine()}
