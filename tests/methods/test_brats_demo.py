"""What the demo recipes for volumes promise: methods cope with missing sequences better than zero filling does."""

from __future__ import annotations

import csv
from pathlib import Path
from statistics import mean

import pytest

from zoo.cli import main

RECIPES = Path(__file__).parents[2] / "recipes"
METHODS = sorted({path.parent.name for path in RECIPES.glob("*/brats_demo.yaml")} - {"baselines"})


def mean_dice(recipe: str, *options: str) -> float:
    """Fit and test a recipe in the current folder; Dice, mean over regions and the 15 sets of sequences."""
    path = str(RECIPES / f"{recipe}.yaml")
    main(["fit", "-c", path, *options])
    main(["test", "-c", path, "--ckpt_path=last", *options])
    with sorted(Path("runs").rglob("scores.csv"))[-1].open() as file:
        (row,) = (row for row in csv.DictReader(file) if row["available"] == "mean")
    return mean(float(row[f"dice_{region}"]) for region in ("ET", "WT", "TC"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("brats")


@pytest.fixture(scope="module")
def baselines(data, tmp_path_factory):
    """Zero filling and modality dropout, trained once for all methods."""
    found = {}
    for name, option in (("zero filling", "false"), ("modality dropout", "true")):
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(tmp_path_factory.mktemp("run"))
            patch.setenv("ZOO_DATA", str(data))
            found[name] = mean_dice("baselines/brats_demo", f"--model.modality_dropout={option}")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_method_beats_zero_filling_and_keeps_up_with_modality_dropout(method, baselines, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZOO_DATA", str(data))
    found = mean_dice(f"{method}/brats_demo")
    assert found >= baselines["zero filling"] + 0.03
    assert found >= baselines["modality dropout"] - 0.01
