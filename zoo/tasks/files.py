"""Files that tests and predictions leave in a run's folder."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from zoo.core.distributed import rank
from zoo.module import ZooModule


def run_folder(module: ZooModule) -> Path:
    """The folder of the running command; made if need be."""
    folder = Path(module.trainer.log_dir or module.trainer.default_root_dir)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_values(rows: Mapping[str, float], metric: str, path: Path) -> None:
    """A CSV of two columns: `what`, and the metric in [0, 1] or NaN."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["what", metric])
        writer.writerows((name, f"{value:.4f}") for name, value in rows.items())


def append_predictions(module: ZooModule, batch_idx: int, id: Sequence[str], probabilities: Tensor) -> None:
    """Append class probabilities, float [B, C], to `predictions.csv`; the first batch begins the file.

    Classes are called as the data module names them, else by their numbers. Of several processes, the r-th (from 0)
    predicts every n-th sample from the r-th on; it writes `predictions.r.csv`, the first `predictions.csv`.
    """
    suffix = "" if rank() == 0 else f".{rank()}"
    path = run_folder(module) / f"predictions{suffix}.csv"
    with path.open("a" if batch_idx else "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if batch_idx == 0:
            names = getattr(module.trainer.datamodule, "classes", None) or range(probabilities.shape[1])
            writer.writerow(["id", *(f"class_{name}" for name in names)])
        for name, row in zip(id, probabilities.tolist(), strict=True):
            writer.writerow([name, *(f"{value:.6f}" for value in row)])
