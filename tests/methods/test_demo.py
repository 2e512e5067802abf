"""What the demo recipes promise: ShaSpec copes with missing modalities, and better than zero filling."""

from __future__ import annotations

import csv
from pathlib import Path
from statistics import mean

import pytest

from zoo.cli import main

RECIPES = Path(__file__).parents[2] / "recipes"


def accuracies(name: str) -> dict[str, float]:
    """Fit and test a recipe in the current folder; accuracy per set of available modalities."""
    recipe = str(RECIPES / f"{name}.yaml")
    main(["fit", "-c", recipe])
    main(["test", "-c", recipe, "--ckpt_path=best"])
    with Path("runs", name, "version_1", "accuracy.csv").open() as file:
        return {row["available"]: float(row["accuracy"]) for row in csv.DictReader(file)}


@pytest.mark.slow
def test_shaspec_learns_its_demo_and_beats_zero_filling(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found, baseline = accuracies("shaspec/demo"), accuracies("baselines/demo")
    assert found["image+audio"] > 0.9
    assert found["image+audio"] >= max(found["image"], found["audio"])
    assert mean(found.values()) > mean(baseline.values()) + 0.1
