"""Evaluation over all sets of modalities equals a loop over samples; tables are written as numbers and as a picture."""

import csv
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics import MeanMetric

from zoo.metrics.subsets import SubsetMetrics, all_subsets, evaluate_over_subsets, subset_name, write_table

NAMES = ("flair", "t1", "t2", "pet")


def test_sets_come_small_ones_first_each_in_the_modalities_order():
    assert all_subsets(["image", "audio"]) == [("image",), ("audio",), ("image", "audio")]
    assert [subset_name(s) for s in all_subsets(("b", "a", "c"))] == ["b", "a", "c", "b+a", "b+c", "a+c", "b+a+c"]


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 6))
def test_all_non_empty_sets_come_once(n):
    found = all_subsets([str(number) for number in range(n)])
    assert len({frozenset(subset) for subset in found}) == len(found) == 2**n - 1


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=6))
def test_each_set_predicts_from_its_modalities_and_counts_the_samples_that_have_them(m, rows):
    names = NAMES[:m]
    present = {name: torch.tensor([row[number] for row in rows]) for number, name in enumerate(names)}
    values = torch.arange(1.0, 1 + m * len(rows)).view(m, len(rows))
    calls = []

    def predict(available):
        calls.append(available)
        return torch.where(available, values, 0.0).sum(0)

    found = list(evaluate_over_subsets(names, present, predict))

    sizes = range(1, m + 1)
    expected = [subset for size in sizes for subset in itertools.combinations(range(m), size)]
    assert len(found) == len(calls) == len(expected)
    for (name, predicted, complete), subset in zip(found, expected, strict=True):
        assert name == "+".join(names[number] for number in subset)
        for row, has in enumerate(rows):
            assert complete[row].item() == all(has[number] for number in subset)
            assert predicted[row].item() == sum(values[number, row].item() for number in subset if has[number])


def test_incomplete_samples_are_left_out_of_a_sets_metric():
    present = {"image": torch.tensor([True, True, False]), "audio": torch.tensor([True, False, True])}
    score = torch.tensor([1.0, 10.0, 100.0])
    metrics = SubsetMetrics(["image", "audio"], MeanMetric)
    for name, predicted, complete in evaluate_over_subsets(["image", "audio"], present, lambda available: score):
        metrics[name].update(predicted[complete])
    found = {name: metric.compute().item() for name, metric in metrics.items()}
    assert found == {"image": 5.5, "audio": 50.5, "image+audio": 1.0}


def test_metrics_are_part_of_the_module_by_the_sets_names():
    metrics = SubsetMetrics(["a", "b"], MeanMetric)
    assert [name for name, _ in metrics.items()] == ["a", "b", "a+b"]
    assert len({id(metric) for _, metric in metrics.items()}) == 3
    assert metrics["a+b"] is metrics.metrics[2]
    assert all(metric in list(metrics.modules()) for _, metric in metrics.items())
    with pytest.raises(ValueError, match="not in list"):
        metrics["b+a"]


def test_a_table_is_written_as_numbers_and_as_a_picture(tmp_path):
    rows = {"image": 0.93331, "audio": 0.5, "image+audio": 1.0}
    write_table(rows, "accuracy", tmp_path / "accuracy")
    with (tmp_path / "accuracy.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["available", "accuracy"],
            ["image", "0.9333"],
            ["audio", "0.5000"],
            ["image+audio", "1.0000"],
        ]
    assert (tmp_path / "accuracy.png").read_bytes().startswith(b"\x89PNG\r\n")


def test_a_table_survives_a_set_that_no_sample_has(tmp_path):
    write_table({"image": 0.5, "audio": float("nan")}, "accuracy", tmp_path / "table")
    assert (tmp_path / "table.csv").read_text().splitlines()[2] == "audio,nan"
    assert (tmp_path / "table.png").is_file()
