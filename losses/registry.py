"""The registry of losses: by name, by kind; and the slots of a method, in which a recipe may put another one.

Importing this module imports no torch, nor any loss: facts stand in `losses.yaml`, a loss's module is imported when it
is asked for. Third parties add losses by entry points of the group `zoo.losses` (`name = "package.module:attribute"`)
and a `losses.yaml` like this project's beside the module.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from losses.kinds import KINDS
from zoo.core.catalogue import Catalogue, Entry, Facts, read_facts
from zoo.core.errors import RecipeError
from zoo.core.names import unknown

T = TypeVar("T", bound=Callable[..., Any])


def _read(path: Path) -> Facts:
    facts = read_facts(path)
    for name, fact in facts.items():
        if fact.get("kind") not in KINDS:
            raise RecipeError(f"{path}: {name}: {unknown('kind of loss', str(fact.get('kind')), KINDS)}")
    return facts


def _packaged() -> dict[str, Entry]:
    facts = _read(Path(__file__).with_name("losses.yaml"))
    return {name: Entry(name, fact["target"], fact) for name, fact in facts.items()}


catalogue = Catalogue("loss", "zoo.losses", _packaged, "losses.yaml", _read)
_registered: dict[str, tuple[str, Callable[..., Any]]] = {}


def register(name: str, *, kind: str) -> Callable[[T], T]:
    """Class or function decorator: make a loss known as `name`.

    A function is called as its kind says, with its further keyword arguments as settings. A class is an nn.Module
    whose `__init__` takes the settings and whose `forward` is called as its kind says; if it has a method
    `setup(num_samples: int, num_classes: int)`, that is called before training.

    Raises:
        RecipeError: if the kind is unknown or the name is taken by another loss.
    """
    if kind not in KINDS:
        raise unknown("kind of loss", kind, KINDS)

    def decorate(loss: T) -> T:
        target = f"{loss.__module__}:{loss.__qualname__}"
        known = catalogue.entries().get(name)
        facts = known.facts if known else {}
        if known and not known.plug_in and known.target != target:  # an entry point may name the module alone
            raise RecipeError(f"The name {name!r} is taken by the loss {known.target}; give yours another.")
        _registered[name] = (kind, loss)
        summary = (inspect.getdoc(loss) or "").partition("\n")[0].removesuffix(".")
        catalogue.add(Entry(name, target, {**facts, "kind": kind, "summary": summary}))
        return loss

    return decorate


def names(kind: str | None = None) -> list[str]:
    """Names of all losses, or of those of one kind; a plug-in's without facts is of none until it is imported."""
    if kind is None:
        return list(catalogue.entries())
    if kind not in KINDS:
        raise unknown("kind of loss", kind, KINDS)
    return [name for name, entry in catalogue.entries().items() if entry.facts.get("kind") == kind]


def kind_of(name: str) -> str:
    """The kind of the loss called `name`."""
    entry = catalogue.entry(name)
    return entry.facts["kind"] if "kind" in entry.facts else find(name)[0]


def find(name: str) -> tuple[str, Callable[..., Any]]:
    """(kind, loss) called `name`, imported. Raises UnknownNameError with near misses."""
    if name not in _registered:
        catalogue.entry(name).load()
    if name not in _registered:
        raise RecipeError(f"{catalogue.entry(name).target} was imported but registers no loss called {name!r}.")
    return _registered[name]


def settings(name: str) -> dict[str, inspect.Parameter]:
    """The settings that a recipe may give to the loss called `name`: keyword, parameter."""
    _, loss = find(name)
    if inspect.isclass(loss):
        parameters = list(inspect.signature(loss.__init__).parameters.values())[1:]
    else:
        given_by_step = {"index", "epoch"}
        parameters = [
            parameter
            for parameter in inspect.signature(loss).parameters.values()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY and parameter.name not in given_by_step
        ]
    return {parameter.name: parameter for parameter in parameters}
