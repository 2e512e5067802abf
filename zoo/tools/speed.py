"""`zoo speed -c RECIPE [--against RECIPE]`."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from zoo.tools.text import table


def configure(parser: ArgumentParser) -> None:
    parser.add_argument("-c", required=True, dest="recipe", metavar="RECIPE", help="a YAML file, or zoo:NAME")
    parser.add_argument("--against", metavar="RECIPE", help="another one, measured after it")
    parser.add_argument("--steps", type=int, default=30, help="training steps that are timed (30)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="append a record per recipe, one JSON line each")
    parser.set_defaults(run=run)


def run(args: Namespace) -> None:
    from zoo.core.errors import RecipeError
    from zoo.speed import measure

    if args.steps < 2:
        raise RecipeError(f"--steps is {args.steps}; it must be at least 2.")
    records = [measure(recipe, args.steps) for recipe in (args.recipe, args.against) if recipe]
    if args.json:
        with args.json.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(record) + "\n" for record in records)
    print("\n\n".join(about(record) for record in records), end="\n\n")
    print(comparison(records))


def about(record: dict[str, Any]) -> str:
    """What was measured, and on what."""
    packages = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    return (
        f"{record['recipe']}: {record['steps']} steps of batch size {record['batch_size']}, {record['precision']}, on "
        f"{record['device']} with {record['threads']} threads\n{packages}"
    )


def comparison(records: list[dict[str, Any]]) -> str:
    """A row per number, a column per recipe, and of two the second's share of the first."""
    columns = [dict(_numbers(record)) for record in records]
    names = list(dict.fromkeys(name for column in columns for name in column))
    rows = []
    for name in names:
        values = [column.get(name) for column in columns]
        ratio = f"{values[1] / values[0]:.2f}" if len(values) == 2 and values[0] and values[1] is not None else ""
        rows.append([name, *("" if value is None else f"{value:.2f}" for value in values), ratio])
    headings = ["", "first", "second"] if len(records) == 2 else ["", "measured"]
    return table([*headings, "ratio"], rows)


def _numbers(record: dict[str, Any]) -> dict[str, float | None]:
    found = {f"step, {which}, ms": value for which, value in record["step_ms"].items()}
    found |= {f"  {part}, ms": value for part, value in record["parts_ms"].items()}
    found["samples per second"] = record["samples_per_second"]
    found |= {f"peak memory, {kind}, MB": value for kind, value in record["memory_mb"].items()}
    if record["host_waits_per_step"] is not None:
        found["host waits per step"] = record["host_waits_per_step"]
    return found
