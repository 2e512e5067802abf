"""The catalogue of methods: names and facts from their cards, classes when they are asked for.

Importing this module imports no torch, nor any method. Third parties add methods by entry points of the group
`zoo.methods` (`name = "package.module:Class"`) and a `card.yaml` beside the module.
"""

from __future__ import annotations

from pathlib import Path

from zoo.cards import Card, read, read_head
from zoo.core.catalogue import Catalogue, Entry, Facts
from zoo.core.errors import RecipeError
from zoo.core.names import unknown

METHODS = Path(__file__).parent / "methods"


def _read(path: Path) -> Facts:
    card = read_head(path)
    paper = card.paper.when if card.paper else ""
    return {
        name: {"task": model.task, "summary": model.summary, "paper": paper, "card": path, "target": model.class_}
        for name, model in card.models.items()
    }


def _packaged() -> dict[str, Entry]:
    facts = {name: fact for path in sorted(METHODS.glob("*/card.yaml")) for name, fact in _read(path).items()}
    return {name: Entry(name, fact["target"], fact) for name, fact in facts.items()}


catalogue = Catalogue("method", "zoo.methods", _packaged, "card.yaml", _read)


def card_paths() -> dict[str, Path]:
    """Where the card of each method lies, by registered name; plug-ins without one are left out."""
    return {name: entry.facts["card"] for name, entry in catalogue.entries().items() if "card" in entry.facts}


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
    ours_last = sorted(entries.values(), key=lambda entry: not entry.plug_in)  # so that they win
    by_class = {entry.target.partition(":")[2]: entry for entry in ours_last}
    return entries.get(text) or by_class.get(text)
