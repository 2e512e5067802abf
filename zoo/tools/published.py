"""Published numbers as tables: one for each data set and split, methods against settings, sources below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import attrgetter

from zoo.cards import Card, Result
from zoo.tools.text import aligned, paragraph

METHOD = ("method", "backbone")
SETTING = ("metric", "unit", "setting", "target")
"""What is the same for all numbers of a table stands in its title."""


def published(card: Card) -> str:
    """The tables of all published numbers of `card`, in its order."""
    place = attrgetter("dataset", "split")
    order = list(dict.fromkeys(map(place, card.results)))
    results = sorted(card.results, key=lambda result: order.index(place(result)))
    return "\n\n".join(_table(list(group), card.sources) for _, group in groupby(results, place))


def _table(results: Sequence[Result], sources: Mapping[str, str]) -> str:
    shared = [key for key in (*METHOD, *SETTING) if len({getattr(result, key) for result in results}) == 1]
    title = _joined(results[0], ["dataset", "split", *(key for key in shared if key != "method")])
    origins = list(dict.fromkeys(_origin(result, sources) for result in results))
    cells: dict[tuple[str, str], list[str]] = {}
    for result in results:
        method = _joined(result, [key for key in METHOD if key == "method" or key not in shared])
        setting = _joined(result, [key for key in SETTING if key not in shared])
        deviation = "" if result.std is None else f" ± {result.std:g}"
        mark = f" [{origins.index(_origin(result, sources)) + 1}]" if len(origins) > 1 else ""
        cells.setdefault((method, setting), []).append(f"{result.value:g}{deviation}{mark}")
    down, across = (list(dict.fromkeys(key[place] for key in cells)) for place in (0, 1))
    if turned := len(down) < len(across):
        down, across = across, down
    rows = [[row, *(" / ".join(cells.get((to, row) if turned else (row, to), ())) for to in across)] for row in down]
    notes = [paragraph(text, "", f"[{n}] " if len(origins) > 1 else "") for n, text in enumerate(origins, start=1)]
    return "\n".join([title, aligned(("", *across), rows).lstrip("\n"), *notes])


def _joined(result: Result, keys: Sequence[str]) -> str:
    return ", ".join(text for key in keys if (text := getattr(result, key)))


def _origin(result: Result, sources: Mapping[str, str]) -> str:
    return "; ".join(filter(None, (result.table, sources[result.source], result.confidence, result.note)))
