"""Recipes: finding them, laying one over another, and remembering where each value comes from."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from datamodules.registry import catalogue as datamodules
from zoo.commands.command_line import CommandLine, Option
from zoo.core.catalogue import Catalogue
from zoo.core.errors import RecipeError
from zoo.core.names import did_you_mean, nearest
from zoo.models import catalogue as models
from zoo.models import named
from zoo.strict_yaml import parse, read

KeyPath = tuple[str | int, ...]

CATALOGUES: dict[str, Catalogue] = {"model": models, "data": datamodules}
_INSTALLED, _CHECKOUT = (Path(__file__).parents[up] / "recipes" for up in (1, 2))
PACKAGED = _INSTALLED if _INSTALLED.is_dir() else _CHECKOUT
"""The recipes that come with this project."""
LOSSES = ("model", "init_args", "losses")
CLASS_KEYS = ("class_path", "init_args", "dict_kwargs")


def find(name: str) -> Path:
    """The file that `-c NAME` means: a path, or `zoo:shaspec/demo` for a recipe that comes with this project.

    Raises:
        RecipeError: with near misses, if there is none.
    """
    if name.startswith("zoo:"):
        packaged = {str(p.relative_to(PACKAGED).with_suffix("")): p for p in PACKAGED.rglob("*.yaml")}
        asked = name.removeprefix("zoo:").removesuffix(".yaml")
        if asked not in packaged:
            raise RecipeError(f"{name} does not come with this project. {did_you_mean(asked, packaged)}")
        return packaged[asked]
    path = Path(name).expanduser()
    if path.is_file():
        return path
    beside = [entry.name for entry in path.parent.glob("*") if entry.suffix in (".yaml", ".yml", ".json")]
    close = [str(path.parent / near) for near in nearest(path.name, beside)]
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    raise RecipeError(f"{name}: there is no such recipe.{hint}")


class Recipe:
    """Several recipes and options, later ones laid over earlier ones.

    Mappings merge key by key, lists are replaced, `key+` appends to a list. Naming another class drops the arguments
    of the one before; naming another loss in a slot drops the settings of the one before and keeps its weight; a
    schedule of a weight replaces the one before.

    Attributes:
        tree: the result, plain data. `class_path` of model and data are full where the catalogues know the name.
        name: of the run: folder and name of the recipe.
    """

    def __init__(self, default_loss: Callable[[str, str], str | None] = lambda model, slot: None) -> None:
        """`default_loss(class_path of the model, slot)` is the name of the loss that stands there by default."""
        self.tree: dict[str, Any] = {}
        self.name = ""
        self._origins: dict[KeyPath, str] = {}
        self._default_loss = default_loss

    # -- laying over ------------------------------------------------------------------------------------------------

    def add(self, tree: Mapping[str, Any], origin: str) -> None:
        """Lay plain data over what there is; `origin` is named in messages about it."""
        self.tree = self._merge(self.tree, _with_full_names(copy.deepcopy(dict(tree))), (), origin)

    def add_file(self, path: Path) -> None:
        """Lay a recipe over what there is. `model`, `data` and `trainer` may name a file of their own beside it."""
        tree = read(path)
        tree = {} if tree is None else tree
        if not isinstance(tree, dict):
            raise RecipeError(f"{path}: a recipe is a mapping of trainer, model and data, not {tree!r}.")
        for key in [key for key, value in tree.items() if _is_file(key, value)]:
            inner = path.parent / tree.pop(key)
            self.add({key: read(inner)}, str(inner))
        self.add(tree, str(path))
        self.name = f"{self.name}+{path.stem}" if self.name else f"{path.resolve().parent.name}/{path.stem}"

    def add_option(self, option: Option) -> None:
        """Lay one `--key=value` over what there is. `init_args` may be left out: `--model.losses.task.weight=2`."""
        if _is_file(option.key, option.value):
            self.add({option.key: read(Path(option.value))}, option.value)
            return
        path, typed = self._locate(option)
        value = _value_of(option, path)
        if option.append or path == ("allow_missing",):
            path = (*path[:-1], f"{path[-1]}+")
        self.tree = self._set(self.tree, path, value, (), typed[-1])
        for end, prefix in enumerate(typed, start=1):
            if self._origins.get(path[:end]) == typed[-1]:
                self._origins[path[:end]] = prefix

    def _locate(self, option: Option) -> tuple[KeyPath, list[str]]:
        """The full path that an option means, and how each beginning of it was typed."""
        path: KeyPath = ()
        typed: list[str] = []
        said = "-"
        for key in option.key.split("."):
            node = self.get(*path)
            if isinstance(node, list) and not key.isdigit():
                path, typed, node = (*path, len(node) - 1), [*typed, said], node[-1] if node else None
            named_class = isinstance(node, str) or (isinstance(node, Mapping) and "class_path" in node)
            of_class = path in (("model",), ("data",)) or named_class
            if of_class and key not in CLASS_KEYS and path[:3] != LOSSES:
                path, typed = (*path, "init_args"), [*typed, said]
            said = f"{said}.{key}" if typed else f"--{key}"
            step = int(key) if isinstance(node, list) and key.isdigit() else key
            if isinstance(step, int) and step >= len(node):
                raise RecipeError(f"{said}: there are {len(node)} in the list.")
            path, typed = (*path, step), [*typed, said]
        if -1 in path:
            raise RecipeError(f"{typed[-1]}: the list is empty; add to it with --{dotted(path[: path.index(-1)])}+=….")
        return path, typed

    def _set(self, node: Any, path: KeyPath, value: Any, above: KeyPath, origin: str) -> Any:
        """`node`, which stands at `above`, with `value` laid over what is at `path` below it."""
        number = next((place for place, key in enumerate(path) if isinstance(key, int)), None)
        if number is None:
            layer = _with_full_names(_nested((*above, *path), value))
            return self._merge(node, _at(layer, above), above, origin)
        before, index, after = path[:number], path[number], path[number + 1 :]
        items = list(_at(node, before))
        items[index] = self._set(items[index], after, value, (*above, *before, index), origin)
        return _put(node, before, items)

    def _merge(self, below: Any, above: Any, path: KeyPath, origin: str) -> Any:
        if not isinstance(above, Mapping):
            self._mark(above, path, origin)
            return above
        below = {"class_path": below} if isinstance(below, str) and path[:3] != LOSSES else below
        whole_schedule = path[:3] == LOSSES and path[-1] == "weight" and "ramp" in above
        if not isinstance(below, Mapping) or _names_another_class(below, above) or whole_schedule:
            below, self._origins[path] = {}, origin
        if path[:-1] == LOSSES and "name" in above:
            below = self._same_loss(below, above["name"], str(path[-1]))
        merged = dict(below)
        for key, value in above.items():
            key, append = str(key).removesuffix("+"), str(key).endswith("+")
            if append:
                before, new = merged.get(key) or [], value if isinstance(value, list) else [value]
                self._origins.setdefault((*path, key), origin)
                for number, item in enumerate(new, start=len(before)):
                    self._mark(item, (*path, key, number), origin)
                merged[key] = [*before, *new]
            else:
                merged[key] = self._merge(merged.get(key), value, (*path, key), origin)
        return merged

    def _same_loss(self, below: Mapping[str, Any], name: str, slot: str) -> Mapping[str, Any]:
        """The slot's earlier settings, without those that belong to another loss than `name`."""
        if set(below) <= {"weight"}:
            return below
        before = below.get("name") or self._default_loss(self.class_path("model") or "", slot)
        return below if before == name else {key: value for key, value in below.items() if key == "weight"}

    def _mark(self, value: Any, path: KeyPath, origin: str) -> None:
        self._origins[path] = origin
        children = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
        for key, child in children:
            self._mark(child, (*path, key), origin)

    # -- asking -----------------------------------------------------------------------------------------------------

    def get(self, *path: str | int) -> Any:
        """The value at `path`, or `None`."""
        return _at(self.tree, path)

    def class_path(self, section: str) -> str | None:
        """Class of `model` or `data`, if named."""
        return self.get(section, "class_path")

    def origin(self, path: KeyPath) -> str:
        """Where the value at `path` comes from: a file, or an option as it was typed."""
        while path and path not in self._origins:
            path = path[:-1]
        return self._origins.get(path, "the recipe")

    def place(self, path: KeyPath) -> str:
        """How a message names `path`: `recipes/toy.yaml: trainer.max_epoch`, or `--trainer.max_epoch`."""
        origin = self.origin(path)
        if origin.startswith("--"):
            whole = path in self._origins or (path[-1] == "class_path" and path[:-1] in self._origins)
            return origin if whole else f"{origin}: {dotted(path)}"
        return f"{origin}: {dotted(path)}"

    def near(self, path: KeyPath, options: Sequence[str]) -> str:
        """Did you mean …? for the last key of `path`, in the form that was typed."""
        place, key = self.place(path), str(path[-1])
        typed = place.removesuffix(key) if place.startswith("--") and " " not in place else ""
        close = nearest(key, options)
        if close and SequenceMatcher(None, key, close[0]).ratio() > 0.9:
            close = close[:1]
        return did_you_mean(typed + key, [typed + option for option in close or options])


def read_all(command: CommandLine, recipe: Recipe) -> Recipe:
    """Lay all that a command line names over `recipe`: its recipes in order, then its options in order."""
    for name in command.configs:
        recipe.add_file(find(name))
    for option in command.options:
        recipe.add_option(option)
    return recipe


def dotted(path: KeyPath) -> str:
    return ".".join(map(str, path))


def option_name(option: Option) -> str:
    return f"--{option.key}"


def _at(tree: Any, path: Sequence[str | int]) -> Any:
    for key in path:
        inside = key in tree if isinstance(tree, Mapping) else isinstance(tree, list) and key in range(len(tree))
        if not inside:
            return None
        tree = tree[key]
    return tree


def _nested(path: KeyPath, value: Any) -> Any:
    for key in reversed(path):
        value = {key: value}
    return value


def _put(tree: Any, path: KeyPath, value: Any) -> Any:
    if not path:
        return value
    return {**tree, path[0]: _put(tree.get(path[0]), path[1:], value)}


def _is_file(key: str, value: Any) -> bool:
    return key in ("trainer", "model", "data") and isinstance(value, str) and value.endswith((".yaml", ".yml"))


def _with_full_names(tree: dict[str, Any]) -> dict[str, Any]:
    """`tree` with the class of `model` and `data` as full path, and slots of losses as mappings."""
    for section, catalogue in CATALOGUES.items():
        node = tree.get(section)
        if isinstance(node, str):
            node = tree[section] = {"class_path": node}
        if isinstance(node, dict) and isinstance(node.get("class_path"), str):
            entry = named(catalogue, node["class_path"])
            node["class_path"] = entry.target.replace(":", ".") if entry else node["class_path"]
    losses = _at(tree, LOSSES)
    if isinstance(losses, dict):
        for slot, override in losses.items():
            losses[slot] = {"name": override} if isinstance(override, str) else override
    return tree


def _names_another_class(below: Mapping[str, Any], above: Mapping[str, Any]) -> bool:
    if not (isinstance(below.get("class_path"), str) and isinstance(above.get("class_path"), str)):
        return False
    one, other = below["class_path"], above["class_path"]
    if "." in one and "." in other:
        return one != other
    return one.rpartition(".")[2] != other.rpartition(".")[2]


def _value_of(option: Option, path: KeyPath) -> Any:
    """What was typed; read as YAML where no signature gives its type, and where it is a list or mapping."""
    free = path[:3] in (LOSSES, ("model", "init_args", "stages"))
    if free or option.value[:1] in ("[", "{"):
        return parse(option.value, option_name(option))
    return option.value
