"""When a pass over the data is due, and the mode it runs in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from torch import nn

from zoo.core.errors import RecipeError


@dataclass
class Pass:
    """Something that happens after every so many optimizer steps or epochs, or after certain epochs.

    Attributes:
        every_steps, every_epochs, at_epochs: one of them; steps may be a function where they change during training.
        first: the step or epoch after which it runs first; `None` is the first period's end.
        done: the step or epoch after which it ran last; in the checkpoint.
    """

    name: str
    run: Callable[[], None]
    every_steps: int | Callable[[], int] | None
    every_epochs: int | None
    at_epochs: Sequence[int] | None = None
    first: int | None = None
    done: int = 0

    def __post_init__(self) -> None:
        if [self.every_steps, self.every_epochs, self.at_epochs].count(None) != 2:
            raise ValueError(f"pass {self.name!r} needs every_steps, every_epochs or at_epochs")
        if self.at_epochs is None and self._period < 1:
            raise RecipeError(
                f"The pass {self.name!r} cannot run every {self._period} steps or epochs; give at least 1."
            )

    @property
    def _period(self) -> int:
        period = self.every_epochs if self.every_steps is None else self.every_steps
        return period() if callable(period) else period

    def _now(self, steps: int, epochs: int) -> int:
        if self.at_epochs is not None:
            return max((epoch for epoch in self.at_epochs if epoch <= epochs), default=0)
        now = epochs if self.every_steps is None else steps
        first = self.first or self._period
        return now - (now - first) % self._period if now >= first else 0

    def is_due(self, steps: int, epochs: int) -> bool:
        return self._now(steps, epochs) > self.done

    def mark(self, steps: int, epochs: int) -> None:
        self.done = self._now(steps, epochs)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; afterwards every submodule is in the mode it was in."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
