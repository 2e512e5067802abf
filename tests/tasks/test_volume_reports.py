"""Tables and pictures over sets of modalities."""

from __future__ import annotations

import csv
import math

import numpy as np

from zoo.metrics.subsets import all_subsets, subset_name
from zoo.tasks.volume_reports import Pictured, write_overlays, write_scores

MODALITIES = ("flair", "t1")


def test_tables_list_sets_in_the_papers_order_and_the_mean(tmp_path):
    names = [subset_name(subset) for subset in all_subsets(MODALITIES)]
    values = [0.5, math.nan, 0.75]
    scores = {name: {"dice_ET": value, "hd95_ET": 10 * value} for name, value in zip(names, values, strict=True)}
    write_scores(scores, MODALITIES, tmp_path / "scores")
    with (tmp_path / "scores.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["available", "dice_ET", "hd95_ET"]
    assert [row[0] for row in rows[1:]] == ["flair", "t1", "flair+t1", "mean"]
    assert rows[-1][1:] == ["0.6250", "6.2500"]
    assert (tmp_path / "scores.md").read_text().splitlines() == [
        "| flair | t1 | dice_ET | hd95_ET |",
        "| --- | --- | --- | --- |",
        "| ● | ○ | 50.00 | 5.0 |",
        "| ○ | ● | – | – |",
        "| ● | ● | 75.00 | 7.5 |",
        "| mean |  | 62.50 | 6.2 |",
    ]


def test_a_picture_is_written_also_of_an_empty_slice(tmp_path):
    target = np.zeros((3, 20, 24), np.uint8)
    predictions = {"flair": np.ones_like(target), "t1": target}
    write_overlays(Pictured("case", np.zeros((20, 24)), ("ET", "WT", "TC"), target, predictions), tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000
