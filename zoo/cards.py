"""Cards: what is known of a method, in `zoo/methods/<folder>/card.yaml`. Commands, README and tests read this record.

    summary: one line
    licence: of the official code
    paper: {title, authors, venue, year, arxiv, code, bibtex}         absent for a baseline without a paper
    models:
      shaspec_classifier:                                             the registered name
        class: zoo.methods.shaspec.module:ShaSpecClassifier
        task: av_classification
        summary: one line
    datasets: [avmnist]
    checkpoints: a list of records, or a sentence that says why there are none
    decisions: [what the paper leaves open, and what this project does]
    sources: {text: where the published numbers were read}
    results:                                                          published ones; the last key
      - {dataset, setting, metric, method, value, unit, table, source, confidence}

Importing and reading this imports no torch.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from zoo.core.errors import ZooError
from zoo.core.names import did_you_mean
from zoo.strict_yaml import parse

CONFIDENCES = ("primary", "secondary", "conflict", "derived")


class CardError(ZooError):
    """A card that does not say what its schema asks for; names file, keys and near misses."""


@dataclass(frozen=True)
class Paper:
    title: str
    authors: list[str]
    venue: str
    year: int
    bibtex: str
    arxiv: str = ""
    code: str = ""
    """URL of the official code."""

    @property
    def when(self) -> str:
        """Venue and year."""
        return self.venue if str(self.year) in self.venue else f"{self.venue} {self.year}"


@dataclass(frozen=True)
class Model:
    class_: str
    """package.module:Class; `class` in the card."""
    task: str
    summary: str


@dataclass(frozen=True)
class Result:
    """One published number. `source` is a key of the card's `sources`."""

    dataset: str
    setting: str
    metric: str
    method: str
    value: float
    unit: str
    table: str
    source: str
    confidence: str
    split: str = ""
    backbone: str = ""
    target: str = ""
    std: float | None = None
    note: str = ""


@dataclass(frozen=True)
class PublishedCheckpoint:
    """One published file of weights."""

    name: str
    file: str
    licence: str
    sha256: str = "unknown"
    url: str = ""
    preprocess: dict[str, Any] = dataclasses.field(default_factory=dict)
    reports: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class Card:
    summary: str
    licence: str
    models: dict[str, Model]
    datasets: list[str]
    checkpoints: list[PublishedCheckpoint] | str
    """Or why there are none."""
    decisions: list[str]
    paper: Paper | None = None
    sources: dict[str, str] = dataclasses.field(default_factory=dict)
    results: list[Result] = dataclasses.field(default_factory=list)


def read(path: Path) -> Card:
    """The card in the file `path`.

    Raises:
        CardError: one line per thing that is wrong.
        RecipeError: if the file cannot be read or is no YAML.
    """
    return _card(parse(_text(path), str(path)), str(path))


def read_head(path: Path) -> Card:
    """The card without its results, which are its last key and may be hundreds: for listings."""
    return _card(parse(_text(path).partition("\nresults:")[0], str(path)), str(path))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CardError(f"{path} cannot be read: {error}.") from None


class _Reader:
    """Builds what a type hint describes out of plain data, and collects what is wrong with it."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def build(self, hint: Any, value: Any, path: str) -> Any:
        if isinstance(hint, UnionType):
            fitting = [kind for kind in get_args(hint) if isinstance(value, _plain(kind))]
            return self.build(fitting[0] if fitting else get_args(hint)[0], value, path)
        if not isinstance(value, _plain(hint)) or (isinstance(value, bool) and hint is not Any):
            self.problems.append(f"{path or 'A card'} must be {_described(hint)}, not {value!r}.")
            return None
        if dataclasses.is_dataclass(hint):
            return self._record(hint, value, path)
        if get_origin(hint) is list:
            return [self.build(get_args(hint)[0], item, _join(path, number)) for number, item in enumerate(value)]
        if get_origin(hint) is dict:
            return {str(key): self.build(get_args(hint)[1], item, _join(path, key)) for key, item in value.items()}
        return value

    def _record(self, cls: type, data: Mapping[str, Any], path: str) -> Any:
        hints, found = _hints(cls), {}
        fields = {"class" if field.name == "class_" else field.name: field for field in dataclasses.fields(cls)}
        for key in data:
            if key not in fields:
                self.problems.append(f"{_join(path, key)} is not a key of a card. {did_you_mean(str(key), fields)}")
        for key, field in fields.items():
            if key in data:
                found[field.name] = self.build(hints[field.name], data[key], _join(path, key))
            elif field.default is field.default_factory is dataclasses.MISSING:
                self.problems.append(f"{_join(path, key)} is missing.")
        return None if self.problems else cls(**found)


_hints = functools.cache(get_type_hints)  # slow, and a card may hold hundreds of results


def _plain(hint: Any) -> Any:
    """The types that YAML gives for `hint`."""
    if dataclasses.is_dataclass(hint):
        return dict
    if hint is float:
        return (float, int)
    return object if hint is Any else get_origin(hint) or hint


def _described(hint: Any) -> str:
    if dataclasses.is_dataclass(hint):
        return f"a mapping of {', '.join(field.name.rstrip('_') for field in dataclasses.fields(hint))}"
    return {str: "a text", int: "a whole number", float: "a number", list: "a list", dict: "a mapping"}[
        get_origin(hint) or hint
    ]


def _join(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)


def _card(data: Any, file: str) -> Card:
    reader = _Reader()
    card = reader.build(Card, data, "")
    if not reader.problems:
        reader.problems += _disagreements(card)
    if isinstance(data, Mapping) and "results" in data and list(data)[-1] != "results":
        reader.problems.append("results must be the last key: listings stop reading there.")
    if reader.problems:
        raise CardError("\n".join(f"{file}: {problem}" for problem in reader.problems))
    return card


def _disagreements(card: Card) -> list[str]:
    """What is wrong with a card whose keys and types are right."""
    problems = []
    for name, model in card.models.items():
        module, _, attribute = model.class_.partition(":")
        if not all(part.isidentifier() for part in [*module.split("."), attribute]):
            problems.append(f"models.{name}.class must be package.module:Class, not {model.class_!r}.")
    for number, result in enumerate(card.results):
        if result.confidence not in CONFIDENCES:
            near = did_you_mean(result.confidence, CONFIDENCES)
            problems.append(f"results.{number}.confidence {result.confidence!r} is unknown. {near}")
        if result.source not in card.sources:
            near = did_you_mean(result.source, card.sources)
            problems.append(f"results.{number}.source {result.source!r} is not a key of sources. {near}")
    return problems
