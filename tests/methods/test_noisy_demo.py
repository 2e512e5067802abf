"""What the demo of noisy labels promises: GNL learns what plain cross-entropy does not hold on to."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from zoo.cli import main

RECIPES = Path(__file__).parents[2] / "recipes"


def last_accuracy(name: str) -> float:
    """Accuracy on true labels after the last epoch of a recipe, run in the current folder."""
    main(["fit", "-c", str(RECIPES / f"{name}.yaml")])
    main(["test", "-c", str(RECIPES / f"{name}.yaml"), "--ckpt_path=last"])
    tested = sorted(Path("runs", name).iterdir())[-1]
    with (tested / "accuracy.csv").open() as file:
        return {row["what"]: float(row["accuracy"]) for row in csv.DictReader(file)}["test"]


@pytest.mark.slow
def test_gnl_ends_at_least_10_points_above_cross_entropy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert last_accuracy("gnl/demo") >= last_accuracy("baselines/noisy_demo") + 0.1
