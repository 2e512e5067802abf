"""`ckpt_path`: which file it means, and what of the model that file says and the recipe leaves open."""

from __future__ import annotations

import pickle
import sys
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from zoo.commands import runs, signatures
from zoo.commands.classes import load
from zoo.commands.recipes import Recipe
from zoo.core.errors import CheckpointError, RecipeError
from zoo.core.reading import read_metadata
from zoo.models import catalogue

NOT_ARCHITECTURE = ("optimizer", "scheduler", "losses", "stages")
"""Arguments of a model that may differ from those its checkpoint was trained with."""


@dataclass(frozen=True)
class SavedModel:
    """What a checkpoint says of its model.

    Attributes:
        path: the file.
        class_path: full path, or `None` if the run was not started by a command.
        arguments: the model's arguments as the run had them, plain data alone.
        epoch, step: where training stood.
    """

    path: Path
    class_path: str | None
    arguments: Mapping[str, Any]
    epoch: int
    step: int


def locate(recipe: Recipe) -> Path | None:
    """The file that the recipe's `ckpt_path` means; `best` and `last` are those of this recipe's newest run.

    Raises:
        CheckpointError: if no run has one, or the path is no file's.
    """
    asked = recipe.get("ckpt_path")
    if asked in (None, "null"):
        return None
    if asked in runs.WORDS:
        return runs.newest(asked, runs.folder_of(recipe.get("trainer") or {}))
    if not isinstance(asked, str) or "://" in asked:
        raise CheckpointError(f"{recipe.place(('ckpt_path',))} must be a file, best or last, not {asked!r}.")
    return Path(asked).expanduser()


def read(path: Path) -> SavedModel:
    """Read what a checkpoint says beside its tensors, which are not loaded.

    Raises:
        CheckpointError: if it is missing, broken, unsafe, or no checkpoint of a training run.
    """
    if not {"state_dict", "epoch", "global_step"} <= set(read_metadata(path)):
        raise CheckpointError(f"{path} is no checkpoint of a training run. Weights alone go to --weights.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError) as error:
        raise CheckpointError(f"{path} cannot be resumed: {str(error).strip().partition(chr(10))[0]}") from None
    hparams = content.get("hyper_parameters")
    hparams = hparams if isinstance(hparams, Mapping) else {}
    arguments = {key: _plain(value) for key, value in hparams.items() if not key.startswith("_")}
    kept = {key: value for key, value in arguments.items() if value is not _NOT_PLAIN}
    return SavedModel(path, hparams.get("_class_path"), kept, content["epoch"], content["global_step"])


_NOT_PLAIN = object()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        found = {str(key): _plain(child) for key, child in value.items()}
        return _NOT_PLAIN if any(child is _NOT_PLAIN for child in found.values()) else found
    if isinstance(value, list | tuple):
        items = [_plain(child) for child in value]
        return _NOT_PLAIN if any(child is _NOT_PLAIN for child in items) else items
    return value if value is None or isinstance(value, str | int | float | bool) else _NOT_PLAIN


def fill(saved: SavedModel, recipe: Recipe, verb: str) -> dict[str, Any]:
    """The recipe to lay below `recipe`: what the checkpoint says of its model and `recipe` leaves open.

    Only classes of the catalogues, or such as the recipe names itself, are ever imported.

    Raises:
        CheckpointError: if the checkpoint is of another class than the recipe's, or names code that is not known.
    """
    class_path = _class_of(saved, recipe)
    try:
        cls = load(class_path)
    except RecipeError:  # lint says what is wrong with the recipe's class
        return {}
    skip = {name for name in ("optimizer", "scheduler") if verb != "fit"}
    arguments = {}
    for name, value in saved.arguments.items():
        own = recipe.get("model", "init_args", name)
        replaced = isinstance(own, str) or (isinstance(own, Mapping) and "class_path" in own)
        if name in signatures.arguments(cls) and name not in skip and not replaced:
            _refuse_unknown_code(saved.path, cls, name, value)
            arguments[name] = value
    return {"model": {"class_path": class_path, "init_args": arguments}}


def _class_of(saved: SavedModel, recipe: Recipe) -> str:
    named, wanted = saved.class_path, recipe.class_path("model")
    if named is None:
        if wanted is None:
            raise CheckpointError(f"{saved.path} does not say of which class its model is. Name it with --model.")
        return wanted
    known = next((path for path in _known_classes() if _same_class(named, path)), None)
    if wanted is None:
        if known is None:
            raise CheckpointError(
                f"{saved.path} is of the class {named}, which is none of this project's. Name it with --model."
            )
        return known
    if not _same_class(named, wanted) and not _same_class(wanted, named):
        raise CheckpointError(
            f"{saved.path} was trained with {named.rpartition('.')[2]}, {recipe.place(('model', 'class_path'))} says "
            f"{wanted.rpartition('.')[2]}. Drop one of them."
        )
    return wanted


def _known_classes() -> Iterator[str]:
    return (entry.target.replace(":", ".") for entry in catalogue.entries().values())


def _same_class(shown: str, full: str) -> bool:
    """Whether `shown`, perhaps by way of a package that re-exports it, is the class at `full`."""
    package, _, name = shown.rpartition(".")
    module, _, full_name = full.rpartition(".")
    return name == full_name and f"{module}.".startswith(f"{package}.")


def _refuse_unknown_code(path: Path, cls: type, name: str, value: Any) -> None:
    """No value from a checkpoint may make the parser import a module."""
    for text in _names_of_code(value, _takes_code(cls, name)):
        module, _, attribute = text.rpartition(".")
        if not hasattr(sys.modules.get(module), attribute):
            raise CheckpointError(f"{path} names {text} as {name}. Name it in the recipe if you trust it.")


def _takes_code(cls: type, name: str) -> bool:
    """Whether a plain text given as this argument may be the name of a class or function."""
    hints: dict[str, Any] = {}
    for base in reversed(cls.mro()[:-1]):
        if "__init__" in vars(base):
            try:
                hints |= typing.get_type_hints(base.__init__)
            except NameError:  # imported for type checkers alone
                return True
    return any(word in str(hints.get(name, "")) for word in ("Callable", "type[", "Module"))


def _names_of_code(value: Any, strings: bool) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, child in value.items():
            yield from _names_of_code(child, strings or key == "class_path")
    elif isinstance(value, list):
        for child in value:
            yield from _names_of_code(child, strings)
    elif isinstance(value, str) and strings and "." in value:
        yield value


def differences(saved: SavedModel, recipe: Recipe, typed: Mapping[str, Any]) -> list[str]:
    """Arguments of the architecture for which the recipe says another value than the checkpoint, one sentence each.

    Args:
        typed: the model's arguments as parsed, plain data.
    """
    found = []
    for name, before in saved.arguments.items():
        if name in NOT_ARCHITECTURE or name not in typed or typed[name] == before:
            continue
        found.append(
            f"{saved.path} was trained with {name} {before!r}, {recipe.place(('model', 'init_args', name))} says "
            f"{typed[name]!r}. Drop one of them."
        )
    return found
