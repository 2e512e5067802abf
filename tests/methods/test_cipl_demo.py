"""What the demo of chests promises with its seed: CIPL finds as well as a linear head, and better where."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from zoo.cli import main

RECIPES = Path(__file__).parents[2] / "recipes"


def means(name: str) -> dict[str, float]:
    """Fit and test a recipe in the current folder: area under the ROC curve and T(IoU), means over findings."""
    main(["fit", "-c", str(RECIPES / f"{name}.yaml")])
    main(["test", "-c", str(RECIPES / f"{name}.yaml"), "--ckpt_path=last"])
    found = {}
    for file in ("findings", "localisation"):
        with Path("runs", name, "version_1", f"{file}.csv").open() as rows:
            (mean,) = (row for row in csv.DictReader(rows) if row["finding"] == "mean")
        found |= {key: float(value) for key, value in mean.items() if key != "finding"}
    return found


@pytest.mark.slow
def test_cipl_finds_as_well_as_a_linear_head_and_locates_better_than_grad_cam(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found, linear = map(means, ("cipl/demo", "baselines/chest_linear_head"))
    assert found["auc"] >= linear["auc"]
    assert found["iou>0.3"] >= 1.3 * linear["iou>0.3"]
