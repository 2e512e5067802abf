"""What the demo of birds promises: MGProto recognises, notices what is new, and its prototypes mean parts."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from zoo.cli import main

RECIPES = Path(__file__).parents[2] / "recipes"


def scores(name: str) -> dict[str, float]:
    """Fit and test a recipe in the current folder: accuracy, measures of parts, AUROC per set of unknown birds."""
    main(["fit", "-c", str(RECIPES / f"{name}.yaml")])
    main(["test", "-c", str(RECIPES / f"{name}.yaml"), "--ckpt_path=last"])
    found = {}
    for file, key, value in (
        ("accuracy", "what", "accuracy"),
        ("parts", "measure", "value"),
        ("out_of_distribution", "set", "auroc"),
    ):
        path = Path("runs", name, "version_1", f"{file}.csv")
        if path.is_file():
            with path.open() as rows:
                found |= {row[key]: float(row[value]) for row in csv.DictReader(rows)}
    return found


@pytest.mark.slow
def test_mgproto_learns_its_demo_as_well_as_a_linear_head_and_explains_better_than_protopnet(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found, linear, protopnet = map(scores, ("mgproto/demo", "baselines/birds_linear_head", "baselines/birds_protopnet"))
    assert found["test"] >= linear["test"] - 0.01
    assert found["new_shape"] >= 0.9
    assert found["consistency"] > protopnet["consistency"]
