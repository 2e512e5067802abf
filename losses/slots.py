"""Slots: the places of a method where a loss stands, each with the paper's loss and weight as default.

A recipe may replace any slot, wholly or in part; what it leaves out stays the paper's:

    losses:
      align: {name: ring_l1, weight: {ramp: [0.0, 0.1], steps: 2000}}
      task: {label_smoothing: 0.1}
"""

from __future__ import annotations

import functools
import inspect
import math
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser
from torch import Tensor, nn

from losses import registry
from losses.kinds import KINDS
from zoo.core.errors import RecipeError, UnknownNameError
from zoo.core.names import did_you_mean


class Weight:
    """A slot's weight: a number, or `{ramp: [first, last], steps: N}` (or `epochs: N`), linear, then constant."""

    def __init__(self, spec: float | Mapping[str, Any]) -> None:
        self.unit, self.length = "steps", 0
        try:
            if isinstance(spec, Mapping):
                (self.unit,) = spec.keys() - {"ramp"}
                self.first, self.last = map(float, spec["ramp"])
                self.length = int(spec[self.unit])
            else:
                self.first = self.last = float(spec)
            valid = self.unit in ("steps", "epochs") and self.length >= 0 and math.isfinite(self.first + self.last)
        except (KeyError, TypeError, ValueError):
            valid = False
        if not valid:
            schedule = " or {ramp: [first, last], steps: N}" if isinstance(spec, Mapping) else ""
            raise RecipeError(f"{spec!r} is no weight; give a number{schedule}.")

    def at(self, step: int, epoch: int) -> float:
        now = step if self.unit == "steps" else epoch
        return self.last if now >= self.length else self.first + now / self.length * (self.last - self.first)


@dataclass(frozen=True)
class Slot:
    """One slot of a method.

    Attributes:
        kind: which losses fit (a key of :data:`losses.kinds.KINDS`).
        name: the paper's loss.
        weight: the paper's weight, a number or a schedule.
        settings: the paper's settings of that loss.
    """

    kind: str
    name: str
    weight: float | Mapping[str, Any] = 1.0
    settings: Mapping[str, Any] | None = None


class _Function(nn.Module):
    """A loss function with its settings, as a module."""

    def __init__(self, function: Callable[..., Tensor], settings: dict[str, Any]) -> None:
        super().__init__()
        self._call = functools.partial(function, **settings)

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        return self._call(*args, **kwargs)


def _typed(name: str, path: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """`settings` converted to the types that the loss's signature states."""
    accepted = registry.settings(name)
    _, loss = registry.find(name)
    hints = typing.get_type_hints(loss.__init__ if inspect.isclass(loss) else loss)
    typed = {}
    for key, value in settings.items():
        if key not in accepted:
            raise RecipeError(
                f"{path}.{key} is not a setting of the loss {name!r}. "
                + (did_you_mean(key, accepted) if accepted else "It has none beside name and weight.")
            )
        wanted = hints.get(key, Any)
        parser = ArgumentParser(exit_on_error=False)
        parser.add_argument(f"--{key}", type=wanted)
        try:
            typed[key] = parser.parse_object({key: value})[key]
            fits = value is not None or wanted is Any or type(None) in typing.get_args(wanted)
        except ArgumentError:
            fits = False
        if not fits:
            raise RecipeError(f"{path}.{key} must be {inspect.formatannotation(wanted)}, not {value!r}.")
    missing = [k for k, p in accepted.items() if p.default is inspect.Parameter.empty and k not in typed]
    if missing:
        raise RecipeError(f"{path}: the loss {name!r} needs {', '.join(missing)}.")
    return typed


def problems(slots: Mapping[str, Slot], overrides: Mapping[str, Any] | None, path: str = "losses") -> list[str]:
    """What is wrong with a recipe's `losses:`, one sentence each, all at once; empty if nothing is."""
    found = []
    for slot, override in (overrides or {}).items():
        try:
            resolve(slots, slot, override, path)
        except RecipeError as error:
            found.append(str(error))
    return found


def resolve(
    slots: Mapping[str, Slot], slot: str, override: Any, path: str = "losses"
) -> tuple[str, dict[str, Any], Weight]:
    """(loss name, its typed settings, weight) of one slot after a recipe's override.

    Raises:
        RecipeError: naming the slot, what it takes, and the nearest names.
    """
    if slot not in slots:
        raise RecipeError(f"{path}.{slot} is not a slot of this method. {did_you_mean(slot, slots)}")
    default = slots[slot]
    if isinstance(override, str):
        override = {"name": override}
    if not isinstance(override, Mapping):
        raise RecipeError(f"{path}.{slot} must be a mapping such as {{name: {default.name}}}, not {override!r}.")
    settings = dict(override)
    name = str(settings.pop("name", default.name))
    weight = settings.pop("weight", default.weight)
    if name == default.name:
        settings = {**(default.settings or {}), **settings}
    try:
        kind = registry.kind_of(name)
    except UnknownNameError as error:
        raise UnknownNameError(f"{path}.{slot}: {error}") from None
    if kind != default.kind:
        fitting = ", ".join(registry.names(default.kind))
        raise RecipeError(
            f"{path}.{slot} takes kind {default.kind} {KINDS[default.kind]}; {name!r} is kind {kind}. "
            f"Of this kind: {fitting}."
        )
    try:
        parsed = Weight(weight)
    except RecipeError as error:
        raise RecipeError(f"{path}.{slot}.weight: {error}") from None
    return name, _typed(name, f"{path}.{slot}", settings), parsed


class LossSlots(nn.Module):
    """The losses of one method, called by slot name: `self.losses.task(logits, labels)`.

    Args:
        slots: the method's slots with the paper's defaults.
        overrides: a recipe's `losses:`, merged over them slot by slot and key by key. When an override names another
            loss, the paper's settings of the replaced loss go, its weight stays.

    Raises:
        RecipeError: naming all slots that are wrong.
    """

    def __init__(self, slots: Mapping[str, Slot], overrides: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        if wrong := problems(slots, overrides):
            raise RecipeError(" ".join(wrong))
        self.weights: dict[str, Weight] = {}
        for slot in slots:
            name, settings, weight = resolve(slots, slot, (overrides or {}).get(slot, {}))
            _, loss = registry.find(name)
            self.weights[slot] = weight
            self.add_module(slot, loss(**settings) if inspect.isclass(loss) else _Function(loss, settings))

    def setup_losses(self, num_samples: int, num_classes: int) -> None:
        """Tell stateful losses the sizes of what they remember."""
        for loss in self.children():
            if callable(setup := getattr(loss, "setup", None)):
                setup(num_samples=num_samples, num_classes=num_classes)

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        raise NotImplementedError("Call a slot: self.losses.<slot>(...).")
