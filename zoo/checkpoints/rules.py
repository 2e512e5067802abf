"""Key rules: a table that turns a published checkpoint's keys into ours.

1. The prefix of a wrapper (`module.` of DataParallel, `_orig_mod.` of torch.compile) that all keys bear is already off
   when the first rule is applied.
2. A rule is a regular expression and what takes the place of each of its matches in a key, as in `re.sub`.
3. Rules are applied in order, each to the keys as the rules before it left them.
4. `transform` changes the tensors whose keys the rule matches, say by a transpose; `drop` takes them out.
5. A rule that matches no key is an error, unless it is `optional`: for keys that only some of the files have.
6. Two tensors with one key are an error. So each tensor is used once, or dropped by a rule that says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass

from torch import Tensor

from zoo.core.errors import CheckpointError

WRAPPERS = ("module.", "_orig_mod.")


@dataclass(frozen=True)
class Rule:
    """One line of the table; see the module.

    Args:
        pattern: regular expression, searched for in a key.
        replacement: what its matches become; `\\1` is the first group.
        transform: tensor in the file to tensor in our layout.
        drop: leave the tensor out; the report names it.
        optional: may match nothing.

    Raises:
        ValueError: if the expression is none, or `drop` comes with what it makes meaningless.
    """

    pattern: str
    replacement: str = ""
    _: KW_ONLY
    transform: Callable[[Tensor], Tensor] | None = None
    drop: bool = False
    optional: bool = False

    def __post_init__(self) -> None:
        try:
            re.sub(self.pattern, self.replacement, "")
        except re.error as error:
            raise ValueError(f"{self} is no regular expression and replacement: {error}.") from None
        if self.drop and (self.replacement or self.transform):
            raise ValueError(f"{self} drops what it also renames or transforms.")

    def __str__(self) -> str:
        return f"Rule({self.pattern!r})" if self.drop else f"Rule({self.pattern!r}, {self.replacement!r})"


@dataclass(frozen=True)
class Renamed:
    """What a table of rules makes of a checkpoint.

    Args:
        tensors: by our keys.
        sources: our key to the file's.
        dropped: the file's keys that a rule took out.
        idle: optional rules that matched nothing.
    """

    tensors: dict[str, Tensor]
    sources: dict[str, str]
    dropped: tuple[str, ...]
    idle: tuple[Rule, ...]


def strip_wrappers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take off the prefixes of :data:`WRAPPERS` that all keys bear."""
    prefix = wrapper_prefix(tensors)
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items()}


def wrapper_prefix(keys: Mapping[str, Tensor]) -> str:
    """The wrappers' prefix that all keys bear, such as `module._orig_mod.`; mostly empty."""
    prefix = ""
    while longer := next((prefix + w for w in WRAPPERS if keys and all(k.startswith(prefix + w) for k in keys)), None):
        prefix = longer
    return prefix


def apply_rules(tensors: Mapping[str, Tensor], rules: Sequence[Rule]) -> Renamed:
    """Rename, transform and drop a checkpoint's tensors.

    Args:
        tensors: by the file's keys.
        rules: see the module.

    Raises:
        CheckpointError: if a rule that is not optional matches nothing, or two tensors get the same key, or a transform
            fails: then the file is not what the rules are for.
    """
    prefix = wrapper_prefix(tensors)
    entries = {key.removeprefix(prefix): (key, tensor) for key, tensor in tensors.items()}
    dropped: list[str] = []
    idle: list[Rule] = []
    for rule in rules:
        renamed: dict[str, tuple[str, Tensor]] = {}
        matches = 0
        for key, (source, tensor) in entries.items():
            new_key, found = re.subn(rule.pattern, rule.replacement, key)
            matches += bool(found)
            if found and rule.drop:
                dropped.append(source)
                continue
            if found and rule.transform:
                tensor = _transformed(rule, source, tensor)
            if new_key in renamed:
                raise CheckpointError(f"{rule} gives {renamed[new_key][0]} and {source} the same key {new_key}.")
            renamed[new_key] = (source, tensor)
        if not matches and not rule.optional:
            raise CheckpointError(
                f"{rule} matches no key, so this is not the kind of checkpoint that the rules are for; "
                f"its keys at this rule: {', '.join([*entries][:3])}, … ({len(entries)} in all)."
            )
        if not matches:
            idle.append(rule)
        entries = renamed
    return Renamed(
        tensors={key: tensor for key, (_, tensor) in entries.items()},
        sources={key: source for key, (source, _) in entries.items()},
        dropped=tuple(dropped),
        idle=tuple(idle),
    )


def _transformed(rule: Rule, source: str, tensor: Tensor) -> Tensor:
    try:
        return rule.transform(tensor)
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        raise CheckpointError(
            f"{rule} cannot transform {source}, of shape {list(tensor.shape)}: {str(error).splitlines()[0]}"
        ) from error
