"""Finds what is wrong with the names of a recipe, all at once, before anything of it is made."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lightning.pytorch import Trainer

from losses.slots import problems as slot_problems
from zoo.commands import classes, signatures
from zoo.commands.command_line import VERBS
from zoo.commands.recipes import CATALOGUES, CLASS_KEYS, LOSSES, KeyPath, Recipe
from zoo.core.errors import RecipeError
from zoo.stages import Stages

OWN_KEYS = ("seed_everything", "trainer", "model", "data", "weights", "allow_missing")
STAGES = ("model", "init_args", "stages")


@dataclass(frozen=True)
class Node:
    """A class of the recipe: what it is given, and where that stands."""

    cls: type
    path: KeyPath
    arguments: Mapping[str, Any]


def verb_keys(verb: str) -> tuple[str, ...]:
    """What a recipe may set of the trainer's method: `ckpt_path` and the like."""
    from_code = {"model", "datamodule", "dataloaders", "train_dataloaders", "val_dataloaders", "self"}
    return tuple(name for name in inspect.signature(getattr(Trainer, verb)).parameters if name not in from_code)


def takes_num_classes(model: type | None, data: type | None) -> bool:
    """Whether the number of classes passes from the data module to the model."""
    if model is None or data is None or "num_classes" not in signatures.arguments(model):
        return False
    return any(
        "num_classes" in vars(cls) or "num_classes" in vars(cls).get("__annotations__", {}) for cls in data.mro()
    )


class Lint:
    """Names of one recipe, held against signatures and catalogues.

    Attributes:
        problems: one sentence each, with place and near misses.
        nodes: all classes found, outer ones first.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.problems: list[str] = []
        self.nodes: list[Node] = []
        self._refuse_interpolation(recipe.tree, ())
        of_verbs = {key: None for verb in VERBS for key in verb_keys(verb)}
        self._keys((), recipe.tree, [*OWN_KEYS, *of_verbs], "a key of a recipe")
        self._trainer()
        self.model = self._section("model")
        self.data = self._section("data")
        self._slots_and_stages()
        self._tasks()
        self._missing_arguments()

    def _tasks(self) -> None:
        if self.model is None or self.data is None:
            return
        takes, gives = getattr(self.model, "task", None), getattr(self.data, "task", None)
        if takes is None or takes != gives:
            self.problems.append(
                f"{self.model.__name__} takes the task {takes}, {self.data.__name__} gives {gives}: "
                "pair a model and a data module of one task."
            )

    # -- keys -------------------------------------------------------------------------------------------------------

    def _keys(self, path: KeyPath, given: Mapping[str, Any], accepted: list[str], what: str) -> None:
        for key in given:
            if key not in accepted:
                place, near = self.recipe.place((*path, key)), self.recipe.near((*path, key), accepted)
                self.problems.append(f"{place} is not {what}. {near}")

    def _refuse_interpolation(self, value: Any, path: KeyPath) -> None:
        if isinstance(value, str) and "${" in value:
            self.problems.append(f"{self.recipe.place(path)}: ${{…}} is not replaced in recipes; write the value.")
        children = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
        for key, child in children:
            self._refuse_interpolation(child, (*path, key))

    # -- sections ---------------------------------------------------------------------------------------------------

    def _trainer(self) -> None:
        trainer = self.recipe.get("trainer")
        if not isinstance(trainer, Mapping):
            self.problems.append(f"{self.recipe.place(('trainer',))} must be a mapping, not {trainer!r}.")
            return
        self._keys(("trainer",), trainer, list(signatures.arguments(Trainer)), "an argument of the trainer")
        self.nodes.append(Node(Trainer, ("trainer",), trainer))
        for key, value in trainer.items():
            self._inside(value, ("trainer", key), key)

    def _section(self, section: str) -> type | None:
        node = self.recipe.get(section)
        if node is None:
            self.problems.append(
                f"No {CATALOGUES[section].what} is named: give a recipe with -c, or --{section} and one of "
                f"{', '.join(CATALOGUES[section].entries()) or 'your own'}."
            )
            return None
        return self._class(node, (section,), section)

    def _class(self, node: Any, path: KeyPath, key: str) -> type | None:
        if not isinstance(node, Mapping) or not isinstance(node.get("class_path"), str):
            self.problems.append(f"{self.recipe.place(path)} needs a class_path.")
            return None
        for name in node:
            if name not in CLASS_KEYS:
                hint = "its arguments stand below init_args."
                self.problems.append(f"{self.recipe.place((*path, name))} stands beside class_path; {hint}")
        arguments = node.get("init_args") or {}
        if not isinstance(arguments, Mapping):
            self.problems.append(f"{self.recipe.place((*path, 'init_args'))} must be a mapping, not {arguments!r}.")
            return None
        try:
            if key in CATALOGUES:
                cls = classes.section_class(key, node["class_path"], CATALOGUES[key])
            else:
                cls = classes.other_class(node["class_path"], key)
        except RecipeError as error:
            self.problems.append(f"{self.recipe.place((*path, 'class_path'))}: {error}")
            return None
        if cls is None:
            return None
        accepted = [name for name in signatures.arguments(cls) if name not in classes.given_by_caller(cls)]
        self._keys((*path, "init_args"), arguments, accepted, f"an argument of {cls.__name__}")
        self.nodes.append(Node(cls, (*path, "init_args"), arguments))
        for name, value in arguments.items():
            self._inside(value, (*path, "init_args", name), name)
        return cls

    def _inside(self, value: Any, path: KeyPath, key: str) -> None:
        """Classes somewhere in a value."""
        if path in (LOSSES, STAGES):
            return
        if isinstance(value, Mapping):
            if "class_path" in value or "init_args" in value:
                self._class(value, path, key)
                return
            for name, child in value.items():
                self._inside(child, (*path, name), str(name))
        elif isinstance(value, list):
            for number, child in enumerate(value):
                self._inside(child, (*path, number), key)

    def _slots_and_stages(self) -> None:
        if self.model is None:
            return
        overrides, stages = self.recipe.get(*LOSSES), self.recipe.get(*STAGES)
        for slot, override in (overrides if isinstance(overrides, Mapping) else {}).items():
            keys = override if isinstance(override, Mapping) else [""]
            origins = {self.recipe.origin((*LOSSES, slot, key)) for key in keys}
            file = "" if any(origin.startswith("--") for origin in origins) else f"{', '.join(sorted(origins))}: "
            self.problems += [file + p for p in slot_problems(self.model.slots, {slot: override}, "model.losses")]
        if isinstance(stages, list):
            try:
                Stages(stages, self.model.stage_options)
            except RecipeError as error:
                self.problems.append(f"{self.recipe.origin(STAGES)}: model.{error}")

    def _missing_arguments(self) -> None:
        for node in self.nodes:
            given = {*node.arguments, *classes.given_by_caller(node.cls)}
            if node.cls is self.model and (self.data is None or takes_num_classes(self.model, self.data)):
                given.add("num_classes")
            if missing := [name for name in signatures.required(node.cls) if name not in given]:
                place = self.recipe.place(node.path[:-1])
                self.problems.append(f"{place}: {node.cls.__name__} needs {', '.join(missing)}.")

    # -- values -----------------------------------------------------------------------------------------------------

    def misfits(self) -> list[str]:
        """Values that do not have the type that their class wants, one sentence each."""
        wrong: set[KeyPath] = set()
        found: list[str] = []
        for node in reversed(self.nodes):
            here = []
            for name, value in node.arguments.items():
                path = (*node.path, name)
                inside = any(inner[: len(path)] == path for inner in wrong)
                if not inside and (wanted := signatures.misfit(node.cls, name, value)):
                    wrong.add(path)
                    here.append(f"{self.recipe.place(path)} must be {wanted}, not {_short(value)}.")
            found = here + found
        return found


def _short(value: Any) -> str:
    text = "null" if value is None else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
