"""Catalogues: what exists under which name, known from YAML and entry points before anything heavy is imported.

A plug-in is a package with an entry point per thing that it adds. Facts of these things stand in a YAML file beside
the module that the entry point names, in the form in which this project's own do; the file is found and read without
importing anything of the plug-in. What is wrong with a plug-in costs one warning line.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from zoo.core.errors import RecipeError, ZooError
from zoo.core.names import unknown

log = logging.getLogger("zoo")

Facts = dict[str, dict[str, Any]]

_TEXTS = ("target", "kind", "task", "summary", "layout")


@dataclass(frozen=True)
class Entry:
    """One named thing.

    Attributes:
        name: under which recipes and users ask for it.
        target: "package.module:attribute" that holds it, or "package.module".
        facts: what is known of it without importing it.
        plug_in: whether a third party's package brings it.
    """

    name: str
    target: str
    facts: dict[str, Any] = field(default_factory=dict)
    plug_in: bool = False

    def load(self) -> Any:
        """The thing itself, imported. Raises RecipeError if a plug-in cannot be imported or has no such attribute."""
        try:
            return EntryPoint(self.name, self.target, group="").load()
        except ZooError:
            raise
        except Exception as error:
            if not self.plug_in:
                raise
            raise RecipeError(f"The plug-in {self.target} failed: {type(error).__name__}: {error}.") from error


class Catalogue:
    """Names of one kind of thing: our own from `packaged`, third parties' from the entry points of `group`.

    Args:
        what: the word for error messages, such as "loss".
        group: entry-point group, such as "zoo.losses".
        packaged: gives this project's entries.
        facts: name of the file with the facts of a plug-in's things, such as "losses.yaml".
        read: gives the facts in such a file, by name; raises ZooError if there is a mistake in it.
    """

    def __init__(
        self,
        what: str,
        group: str,
        packaged: Callable[[], dict[str, Entry]],
        facts: str = "",
        read: Callable[[Path], Facts] = lambda path: {},
    ) -> None:
        self.what, self.group, self._packaged, self._facts, self._read = what, group, packaged, facts, read
        self._entries: dict[str, Entry] | None = None

    def entries(self) -> dict[str, Entry]:
        """All entries by name, sorted. This project's own win over a plug-in's of the same name."""
        if self._entries is None:
            self._entries = dict(sorted((self._plugged_in() | self._packaged()).items()))
        return self._entries

    def _plugged_in(self) -> dict[str, Entry]:
        found: dict[str, Entry] = {}
        known: dict[Path, Facts] = {}
        for point in entry_points(group=self.group):
            try:
                folder = _folder(point.module)
            except Exception as error:  # whatever stands in a stranger's package
                log.warning(f"{self._named(point)} is left out: {error}")
                continue
            path = folder / self._facts if folder and self._facts else None
            if path and path not in known:
                known[path] = self._read_facts(path, point)
            found[point.name] = Entry(point.name, point.value, known.get(path, {}).get(point.name, {}), plug_in=True)
        return found

    def _read_facts(self, path: Path, point: EntryPoint) -> Facts:
        try:
            return self._read(path) if path.is_file() else {}
        except Exception as error:
            first, *more = str(error).splitlines() or [type(error).__name__]
            further = f" (and {len(more)} more)" if more else ""
            log.warning(f"{self._named(point)} is listed without facts: {first}{further}")
            return {}

    def _named(self, point: EntryPoint) -> str:
        of = f" of {point.dist.name}" if point.dist else ""
        return f"The {self.what} {point.name!r}{of}"

    def add(self, entry: Entry) -> None:
        """Add an entry for the life of this process (a user's own script)."""
        self._entries = dict(sorted((self.entries() | {entry.name: entry}).items()))

    def entry(self, name: str) -> Entry:
        """The entry called `name`. Raises UnknownNameError with near misses."""
        try:
            return self.entries()[name]
        except KeyError:
            raise unknown(self.what, name, self.entries()) from None


def _folder(module: str) -> Path | None:
    """The folder that holds a module, `None` if that is in no package. Imports neither it nor its parents.

    Raises:
        RecipeError: if there is no such module.
    """
    top, *inner = module.split(".")
    spec: ModuleSpec | None = find_spec(top)
    name = top
    for part in inner:
        name = f"{name}.{part}"
        places = spec.submodule_search_locations if spec else None
        spec = PathFinder.find_spec(name, list(places)) if places else None
    if spec is None:
        raise RecipeError(f"there is no module {module}.")
    if not inner and not spec.submodule_search_locations:
        return None
    return Path(spec.origin).parent if spec.has_location and spec.origin else None


def read_facts(path: Path) -> Facts:
    """The facts in a YAML file: a mapping of names to mappings.

    Raises:
        RecipeError: naming the file, if it cannot be read or says something else.
    """
    try:
        facts = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise RecipeError(f"{path} cannot be read: {' '.join(str(error).split())}.") from None
    if not isinstance(facts, dict):
        raise RecipeError(f"{path} must be a mapping of names to facts.")
    for name, fact in facts.items():
        if not isinstance(fact, dict):
            raise RecipeError(f"{path}: {name} must be a mapping of facts.")
        for key in _TEXTS:
            if not isinstance(fact.get(key, ""), str):
                raise RecipeError(f"{path}: {name}.{key} must be a text.")
    return facts
