"""Tables of a benchmark's records: mean ± standard deviation over seeds, paired differences, published numbers."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from statistics import mean, stdev

from zoo.benchmark.runner import Record
from zoo.benchmark.suite import Suite

Values = dict[tuple[str, str], dict[int, float]]  # (method, setting) to seed to value


def values_of(records: Iterable[Record], metric: str) -> Values:
    """Percent of one metric by method and setting, then seed."""
    found: Values = {}
    for record in records:
        found.setdefault((record["method"], record["setting"]), {})[record["seed"]] = 100 * record["metrics"][metric]
    return found


def _spread(values: Iterable[float]) -> str:
    values = list(values)
    return f"{mean(values):.2f} ± {stdev(values):.2f}" if len(values) > 1 else f"{values[0]:.2f}"


def _table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def markdown(suite: Suite, records: list[Record]) -> str:
    """The report: a table per metric; the headline with published numbers and paired differences."""
    parts = [f"In percent, mean ± standard deviation over {len(suite.seeds)} seeds."]
    for metric in suite.metrics:
        values = values_of(records, metric)
        rows = [[name, *(_spread(values[name, s].values()) for s in suite.settings)] for name in suite.recipes]
        if metric == suite.metrics[0]:
            rows += _published(suite)
        parts.append(f"## {metric}\n\n{_table(['method', *suite.settings], rows)}")
        if metric == suite.metrics[0]:
            table = _table([f"{suite.reference} minus", *suite.settings], _differences(suite, values))
            parts.append(f"Differences, paired by seed:\n\n{table}")
    return "\n\n".join(parts) + "\n"


def _published(suite: Suite) -> list[list[str]]:
    values = suite.published_values()
    methods = dict.fromkeys(method for method, _ in values)
    return [[f"*published: {method}*", *(f"{values[method, s]:.2f}" for s in suite.settings)] for method in methods]


def _differences(suite: Suite, values: Values) -> list[list[str]]:
    def difference(name: str, setting: str) -> str:
        reference = values[suite.reference, setting]
        return _spread(reference[seed] - value for seed, value in values[name, setting].items())

    return [[name, *(difference(name, s) for s in suite.settings)] for name in suite.recipes if name != suite.reference]


def write(suite: Suite, records: list[Record], folder: Path) -> None:
    """Write `table.md` and, a row per run, `table.csv`."""
    order = [run.key for run in suite.runs()]
    by_key = {(record["method"], record["setting"], record["seed"]): record for record in records}
    records = [by_key[key] for key in order]
    (folder / "table.md").write_text(markdown(suite, records), encoding="utf-8")
    with (folder / "table.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["method", "setting", "seed", *suite.metrics])
        for record in records:
            scores = (f"{record['metrics'][metric]:.6f}" for metric in suite.metrics)
            writer.writerow([record["method"], record["setting"], record["seed"], *scores])
