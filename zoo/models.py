"""The catalogue of methods: names and facts from their cards, classes when they are asked for.

Importing this module imports no torch, nor any method. Third parties add methods by entry points of the group
`zoo.methods` (`name = "package.module:Class"`); their card is the `card.yaml` beside that module.
"""

from __future__ import annotations

import functools
from importlib.util import find_spec
from pathlib import Path

from zoo.cards import Card, read, read_head
from zoo.core.catalogue import Catalogue, Entry
from zoo.core.errors import RecipeError
from zoo.core.names import unknown

METHODS = Path(__file__).parent / "methods"


def _packaged() -> dict[str, Entry]:
    found = {}
    for path in sorted(METHODS.glob("*/card.yaml")):
        card = read_head(path)
        for name, model in card.models.items():
            facts = {"task": model.task, "summary": model.summary, "paper": card.paper.when if card.paper else ""}
            found[name] = Entry(name, model.class_, {**facts, "card": path})
    return found


catalogue = Catalogue("method", "zoo.methods", _packaged)


@functools.cache
def card_paths() -> dict[str, Path]:
    """Where the card of each method lies, by registered name; plug-ins without a card are left out."""
    found = {}
    for name, entry in catalogue.entries().items():
        path = entry.facts.get("card") or _beside(entry.target.partition(":")[0])
        if path and path.is_file():
            found[name] = path
    return found


def _beside(module: str) -> Path | None:
    """`card.yaml` beside a module, found without importing it or its parents."""
    top, *inner = module.split(".")
    spec = find_spec(top)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0], *inner[:-1], "card.yaml")


def card(name: str) -> Card:
    """The card of the method called `name`, or of the folder of that name."""
    paths = card_paths()
    by_folder = {path.parent.name: path for path in paths.values()}
    if path := paths.get(name) or by_folder.get(name):
        return read(path)
    if name in catalogue.entries():
        raise RecipeError(f"{name} comes from a plug-in that has no card.yaml beside its module.")
    raise unknown("method", name, {*paths, *by_folder})


def named(catalogue: Catalogue, text: str) -> Entry | None:
    """The entry whose name or class name is `text`: `shaspec_classifier` or `ShaSpecClassifier`."""
    entries = catalogue.entries()
    by_class = {entry.target.partition(":")[2]: entry for entry in entries.values()}
    return entries.get(text) or by_class.get(text)
