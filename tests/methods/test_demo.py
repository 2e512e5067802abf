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


@pytest.fixture(scope="module")
def baseline(tmp_path_factory) -> dict[str, float]:
    """Zero filling, trained once for all methods."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("baseline"))
        return accuracies("baselines/demo")


@pytest.mark.slow
def test_mckd_learns_its_demo_and_is_no_worse_than_zero_filling(baseline, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = accuracies("mckd/demo")
    assert found["image+audio"] > 0.8
    assert mean(found.values()) >= mean(baseline.values())


@pytest.mark.slow
def test_shaspec_learns_its_demo_and_beats_zero_filling(baseline, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = accuracies("shaspec/demo")
    assert found["image+audio"] > 0.9
    assert found["image+audio"] >= max(found["image"], found["audio"])
    assert mean(found.values()) > mean(baseline.values()) + 0.1
