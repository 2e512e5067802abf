"""Classes that recipes name: by registered name, by class name, or by full path."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Iterator

from lightning.pytorch import Callback
from lightning.pytorch.loggers import Logger
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

import zoo.callbacks  # noqa: F401 so that recipes can name them by class name
from datamodules.base import ZooDataModule
from zoo.core.catalogue import Catalogue
from zoo.core.errors import RecipeError, ZooError
from zoo.core.names import did_you_mean
from zoo.module import ZooModule

SECTIONS: dict[str, type] = {"model": ZooModule, "data": ZooDataModule}
BASES: dict[str, type] = {
    "callbacks": Callback,
    "logger": Logger,
    "optimizer": Optimizer,
    "scheduler": LRScheduler,
}
"""What the class under a key of a recipe derives from, for those that may be named by class name alone."""


def load(class_path: str) -> type:
    """The class at a full path.

    Raises:
        RecipeError: one sentence without the place: no such module, or no such name in it.
    """
    module_name, _, attribute = class_path.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ZooError:
        raise
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise RecipeError(f"there is no module {module_name!r}. {_near_module(module_name)}".strip()) from None
        raise RecipeError(f"importing {module_name} failed: {error}.") from error
    except Exception as error:
        raise RecipeError(f"importing {module_name} failed: {type(error).__name__}: {error}.") from error
    found = getattr(module, attribute, None)
    if not isinstance(found, type):
        classes = [name for name, value in vars(module).items() if isinstance(value, type)]
        raise RecipeError(f"{module_name} has no class {attribute!r}. {did_you_mean(attribute, classes)}")
    return found


def _near_module(name: str) -> str:
    parent, _, last = name.rpartition(".")
    if parent in sys.modules:
        inside = [key.rpartition(".")[2] for key in sys.modules if key.rpartition(".")[0] == parent]
        return did_you_mean(last, inside)
    return "A module of your own must be installed, or its folder named by PYTHONPATH." if not parent else ""


def section_class(section: str, class_path: str, catalogue: Catalogue) -> type:
    """The class of `model` or `data`, which must derive from this project's base."""
    if "." not in class_path:
        entries = catalogue.entries()
        as_typed = class_path[:1].isupper()
        names = [entry.target.partition(":")[2] if as_typed else name for name, entry in entries.items()]
        raise RecipeError(f"{class_path!r} is not a known {catalogue.what}. {did_you_mean(class_path, names)}")
    cls = load(class_path)
    if not issubclass(cls, SECTIONS[section]):
        raise RecipeError(f"{class_path} is no {SECTIONS[section].__name__}.")
    return cls


def other_class(class_path: str, key: str) -> type | None:
    """The class named below `key`, anywhere else in a recipe; `None` if only its signature can tell."""
    if "." in class_path:
        return load(class_path)
    if key not in BASES:
        return None
    public = (cls for cls in _descendants(BASES[key]) if not cls.__name__.startswith("_"))
    known = {cls.__name__: cls for cls in public if "<locals>" not in cls.__qualname__}
    if class_path not in known:
        raise RecipeError(f"{class_path!r} is no {BASES[key].__name__}. {did_you_mean(class_path, known)}")
    return known[class_path]


def _descendants(cls: type) -> Iterator[type]:
    for child in cls.__subclasses__():
        yield child
        yield from _descendants(child)


def given_by_caller(cls: type) -> Iterable[str]:
    """Arguments that the model hands over, not the recipe."""
    if issubclass(cls, Optimizer):
        return ("params",)
    return ("optimizer",) if issubclass(cls, LRScheduler) else ()
