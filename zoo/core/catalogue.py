"""Catalogues: what exists under which name, known from YAML and entry points before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from zoo.core.names import unknown


@dataclass(frozen=True)
class Entry:
    """One named thing.

    Attributes:
        name: under which recipes and users ask for it.
        target: "package.module:attribute" that holds it, or "package.module".
        facts: what is known of it without importing it.
    """

    name: str
    target: str
    facts: dict[str, Any] = field(default_factory=dict)

    def load(self) -> Any:
        return EntryPoint(self.name, self.target, group="").load()


class Catalogue:
    """Names of one kind of thing: our own from `packaged`, third parties' from the entry points of `group`.

    Args:
        what: the word for error messages, such as "loss".
        group: entry-point group, such as "zoo.losses".
        packaged: gives this project's entries.
    """

    def __init__(self, what: str, group: str, packaged: Callable[[], dict[str, Entry]]) -> None:
        self.what, self.group, self._packaged = what, group, packaged
        self._entries: dict[str, Entry] | None = None

    def entries(self) -> dict[str, Entry]:
        """All entries by name, sorted. This project's own win over a plug-in's of the same name."""
        if self._entries is None:
            found = {point.name: Entry(point.name, point.value) for point in entry_points(group=self.group)}
            self._entries = dict(sorted((found | self._packaged()).items()))
        return self._entries

    def add(self, entry: Entry) -> None:
        """Add an entry for the life of this process (a user's own script)."""
        self._entries = dict(sorted((self.entries() | {entry.name: entry}).items()))

    def entry(self, name: str) -> Entry:
        """The entry called `name`. Raises UnknownNameError with near misses."""
        try:
            return self.entries()[name]
        except KeyError:
            raise unknown(self.what, name, self.entries()) from None
