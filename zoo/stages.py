"""Training stages: a list in the recipe, read by one mechanism.

    stages:
      - {name: warmup, until_epoch: 5, train_backbone: false}
      - {name: joint}

Which stage holds follows from the epoch and the optimizer step alone, so a resumed run is in the right one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zoo.core.errors import RecipeError
from zoo.core.names import did_you_mean


@dataclass(frozen=True)
class Stage:
    """One stage; `until_*` is the first epoch or optimizer step that no longer belongs to it.

    A stage's options are read like a mapping: `stage["train_backbone"]`.
    """

    name: str
    until_epoch: int | None
    until_step: int | None
    options: Mapping[str, Any]

    def __getitem__(self, option: str) -> Any:
        return self.options[option]


class Stages:
    """The stages of a run, in order.

    Args:
        specs: a recipe's `stages:`; `None` or empty is one stage called "train" with all defaults.
        options: what a stage may set, with defaults.

    Raises:
        RecipeError: unknown option, a stage before the last one without an end or with two, ends that do not increase.
    """

    def __init__(self, specs: Sequence[Mapping[str, Any]] | None, options: Mapping[str, Any]) -> None:
        self._stages = [self._stage(number, spec, options) for number, spec in enumerate(specs or [{"name": "train"}])]
        for number, stage in enumerate(self._stages):
            where = f"stages.{number} ({stage.name})"
            ends = [end for end in (stage.until_epoch, stage.until_step) if end is not None]
            if number == len(self._stages) - 1:
                if ends:
                    raise RecipeError(f"{where} is the last one and lasts until training ends.")
            elif not ends:
                raise RecipeError(f"{where} needs until_epoch or until_step: another follows it.")
            elif len(ends) > 1:
                raise RecipeError(f"{where} has until_epoch and until_step; give one of them.")
            elif not isinstance(ends[0], int) or ends[0] < 1:
                raise RecipeError(f"{where} ends at {ends[0]!r}; give a whole number, at least 1.")
        for unit in ("until_epoch", "until_step"):
            ends = [value for stage in self._stages if (value := getattr(stage, unit)) is not None]
            if ends != sorted(set(ends)):
                raise RecipeError(f"stages: {unit} must increase from stage to stage, not {ends}.")

    @staticmethod
    def _stage(number: int, spec: Mapping[str, Any], options: Mapping[str, Any]) -> Stage:
        if "name" not in spec:
            raise RecipeError(f"stages.{number} needs a name.")
        own = {"name", "until_epoch", "until_step"}
        if unknown := [key for key in spec if key not in own and key not in options]:
            raise RecipeError(
                f"stages.{number}.{unknown[0]} is not an option of a stage here. "
                + did_you_mean(unknown[0], own | set(options))
            )
        chosen = {option: spec.get(option, default) for option, default in options.items()}
        return Stage(str(spec["name"]), spec.get("until_epoch"), spec.get("until_step"), chosen)

    def ends(self, option: str, last: int | None) -> dict[int, Any]:
        """After how many epochs the stages end for which `option` is set, and to what.

        Args:
            option: one of the stages' options.
            last: epochs of the run, which end the last stage; `None` if they are not known: it is then left out.

        Raises:
            RecipeError: if such a stage ends by `until_step`.
        """
        chosen = [(number, stage) for number, stage in enumerate(self._stages) if stage[option]]
        for number, stage in chosen:
            if stage.until_step is not None:
                raise RecipeError(f"stages.{number} ({stage.name}) sets {option}, so it must end by until_epoch.")
        ends = {stage.until_epoch or last: stage[option] for _, stage in chosen}
        return {epoch: value for epoch, value in ends.items() if epoch is not None}

    def at(self, epoch: int, step: int) -> Stage:
        """The stage that the optimizer step `step` (0-based) of epoch `epoch` belongs to."""
        for stage in self._stages[:-1]:
            if stage.until_epoch is not None and epoch < stage.until_epoch:
                return stage
            if stage.until_step is not None and step < stage.until_step:
                return stage
        return self._stages[-1]
