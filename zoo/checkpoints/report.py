"""What an import found: counts and names, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import takewhile

import torch

from zoo.checkpoints.rules import Rule


@dataclass(frozen=True)
class ImportReport:
    """How a checkpoint's tensors meet a model's.

    Args:
        model: the model's class.
        source: the file, or hub id.
        sha256, format, container, alternatives: as of :class:`~zoo.core.reading.Container`; empty if no file was read.
        matched: our keys that get a tensor.
        missing: our keys that get none: not in the file, or there in another shape and allowed to be missing.
        allowed: those of `missing` that may be.
        unexpected: keys, after the rules, that the model does not have.
        mis_shaped: our key to (shape in the file, shape in the model).
        wrong_kind: our key to (dtype in the file, dtype in the model) where a cast would lose what the numbers are,
            such as float to integer.
        casts: the same where it would not.
        non_finite: our keys whose tensors hold NaN or infinity where the model's do not.
        dropped: the file's keys that a rule took out.
        idle: optional rules that matched nothing.
        changed: whether any tensor differs from what the model had before.
    """

    model: str
    source: str
    sha256: str
    format: str
    container: str
    alternatives: tuple[str, ...]
    matched: tuple[str, ...]
    missing: tuple[str, ...]
    allowed: tuple[str, ...]
    unexpected: tuple[str, ...]
    mis_shaped: dict[str, tuple[torch.Size, torch.Size]]
    wrong_kind: dict[str, tuple[torch.dtype, torch.dtype]]
    casts: dict[str, tuple[torch.dtype, torch.dtype]]
    non_finite: tuple[str, ...]
    dropped: tuple[str, ...]
    idle: tuple[Rule, ...]
    changed: bool

    def refusal(self) -> str | None:
        """Why this must not be loaded, in two sentences; `None` if it may."""
        lacking = [key for key in self.missing if key not in self.allowed]
        shapes = {key: pair for key, pair in self.mis_shaped.items() if key not in self.allowed}
        reasons = {
            "missing": lacking,
            "unexpected": self.unexpected,
            "of another shape": [f"{key} {_pair(pair)}" for key, pair in shapes.items()],
            "of another kind of number": [f"{key} {_pair(pair)}" for key, pair in self.wrong_kind.items()],
            "not finite": self.non_finite,
        }
        found = [f"{len(keys)} {what} ({_first(keys)})" for what, keys in reasons.items() if keys]
        if not found:
            return None
        message = (
            f"{self.source} does not fit {self.model}: {'; '.join(found)}; {len(self.matched)} tensors would fit. "
            "Nothing was loaded."
        )
        if absent := [*lacking, *shapes]:
            message += f" To keep the model's own values there: --allow-missing '{_pattern(absent, self.matched)}'."
        return message

    def __str__(self) -> str:
        origin = ", ".join(part for part in (self.format, self.container and f"under {self.container!r}") if part)
        lines = [f"{self.source}{f' ({origin})' if origin else ''} → {self.model}"]
        if self.sha256:
            lines.append(f"  sha256 {self.sha256}")
        lines.append(f"  matched {len(self.matched)}")
        casts = sorted({_pair(pair) for pair in self.casts.values()})
        shapes = [f"{key} {_pair(pair)}" for key, pair in self.mis_shaped.items()]
        for what, names in (
            ("missing", self.missing),
            ("of another shape", shapes),
            ("unexpected", self.unexpected),
            ("dropped", self.dropped),
            ("rules without a match", [str(rule) for rule in self.idle]),
        ):
            if names:
                lines.append(f"  {what} {len(names)} ({_first(names)})")
        if casts:
            lines.append(f"  cast {len(self.casts)} ({_first(casts)})")
        if self.alternatives:
            lines.append(f"  the file also holds {', '.join(self.alternatives)}")
        if not self.changed:
            lines.append("  warning: no tensor differs from what the model had before")
        return "\n".join(lines)


def _first(names: Sequence[str], n: int = 3) -> str:
    return ", ".join(names[:n]) + (", …" if len(names) > n else "")


def _pair(pair: tuple[torch.Size, torch.Size] | tuple[torch.dtype, torch.dtype]) -> str:
    theirs, ours = (str(list(x)) if isinstance(x, torch.Size) else str(x).removeprefix("torch.") for x in pair)
    return f"{theirs} → {ours}"


def _pattern(keys: Sequence[str], others: Sequence[str]) -> str:
    """The first of `head.*`, `*.num_batches_tracked` and the like that holds for all keys and no others, or a key."""
    parents = zip(*(key.split(".")[:-1] for key in keys), strict=False)
    prefix = ".".join(names[0] for names in takewhile(lambda names: len({*names}) == 1, parents))
    endings = {key.rpartition(".")[2] for key in keys}
    patterns = [f"{prefix}.*"] * bool(prefix) + [f"*.{ending}" for ending in endings if len(endings) == 1]
    fitting = [pattern for pattern in patterns if not any(fnmatchcase(key, pattern) for key in others)]
    return fitting[0] if fitting and len(keys) > 1 else keys[0]
