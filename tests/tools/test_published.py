"""Published numbers are shown as a paper would: methods against settings, and where each number comes from."""

from __future__ import annotations

from typing import Any

from zoo.cards import Card, Result
from zoo.tools.published import published


def shown(*numbers: dict[str, Any]) -> list[str]:
    facts = {"dataset": "birds", "setting": "", "metric": "accuracy", "unit": "percent", "table": "", "source": "paper"}
    results = [Result(**{**facts, "confidence": "primary", **number}) for number in numbers]
    sources = {"paper": "the paper", "other": "another one"}
    card = Card("", "", models={}, datasets=[], checkpoints="", decisions=[], sources=sources, results=results)
    return published(card).splitlines()


def test_one_number_stands_below_what_it_is() -> None:
    assert shown({"method": "ours", "value": 71.0, "table": "Table 2"}) == [
        "birds, accuracy, percent",
        "ours  71",
        "Table 2; the paper; primary",
    ]


def test_what_there_are_fewer_of_stands_across() -> None:
    numbers = [
        {"method": method, "setting": setting, "value": value}
        for method, values in {"ours": (1, 2, 3), "theirs": (4, 5)}.items()
        for setting, value in zip(("a", "b", "c"), values, strict=False)
    ]
    assert shown(*numbers)[1:5] == ["   ours  theirs", "a  1     4", "b  2     5", "c  3"]
    assert shown(*numbers[:2], *numbers[3:])[1:4] == ["        a  b", "ours    1  2", "theirs  4  5"]


def test_origins_are_marked_where_they_differ_and_no_number_is_lost() -> None:
    numbers = (
        {"method": "ours", "value": 71.5, "std": 0.25},
        {"method": "ours", "value": 70, "source": "other", "confidence": "secondary", "note": "read by eye"},
        {"method": "ours", "backbone": "ResNet-50", "value": 80},
    )
    assert shown(*numbers)[1:] == [
        "ours             71.5 ± 0.25 [1] / 70 [2]",
        "ours, ResNet-50  80 [1]",
        "[1] the paper; primary",
        "[2] another one; secondary; read by eye",
    ]


def test_data_sets_and_splits_have_tables_of_their_own_in_the_cards_order() -> None:
    numbers = [
        {"method": "ours", "value": value, "dataset": dataset, "split": split}
        for value, (dataset, split) in enumerate([("b", "test"), ("a", "val"), ("b", "test"), ("a", "test")])
    ]
    titles = [line for line in shown(*numbers) if line.endswith("percent")]
    assert titles == ["b, test, accuracy, percent", "a, val, accuracy, percent", "a, test, accuracy, percent"]
