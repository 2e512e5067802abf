"""What a class takes, also through `**kwargs` that it hands to its base, and which values fit."""

from __future__ import annotations

import copy
import functools
import re
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser


@functools.cache
def arguments(cls: type) -> tuple[str, ...]:
    """Names of the arguments of `cls`, in order."""
    return tuple(ArgumentParser().add_class_arguments(cls, None, fail_untyped=False, as_group=False))


@functools.cache
def required(cls: type) -> tuple[str, ...]:
    """Those without a default."""
    try:
        _parser(cls).parse_object({})
    except ArgumentError as error:
        if found := re.search(r"the following arguments are required: (.+)", str(error)):
            return tuple(found[1].split(", "))
        raise
    return ()


def misfit(cls: type, argument: str, value: Any) -> str | None:
    """The type that `cls` wants for `argument`, in words, if `value` does not fit it."""
    parser = _parser(cls, only=argument)
    try:
        parser.parse_object({argument: copy.deepcopy(value)})
    except ArgumentError as error:
        return wanted(str(error))
    return None


def _parser(cls: type, only: str | None = None) -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    skip = {name for name in arguments(cls) if only not in (None, name)}
    parser.add_class_arguments(cls, None, fail_untyped=False, as_group=False, skip=skip)
    return parser


def wanted(message: str) -> str:
    """The type that a message of jsonargparse says it expects."""
    if union := re.search(r"^ *Subtypes: \[(.*)\]$", message, re.MULTILINE):
        return " or ".join(_readable(part) for part in _split(union[1]))
    if single := re.search(r"Expected an? (.*?)(?:\. Got value: .*)?$", message, re.MULTILINE):
        return _readable(single[1])
    return " ".join(message.split())


def _split(types: str) -> list[str]:
    """Parts of a list of types, at commas outside of brackets."""
    parts, depth = [""], 0
    for sign in types:
        depth += (sign in "[(") - (sign in "])")
        if sign == "," and not depth:
            parts.append("")
        else:
            parts[-1] += sign
    return [part.strip() for part in parts]


def _readable(text: str) -> str:
    """A type in words: `<class 'int'>` is `int`, `typing.Literal['a', 'b']` is `'a', 'b'`."""
    text = re.sub(r"<class '([^']+)'>", r"\1", text)
    if literal := re.fullmatch(r"typing\.Literal\[(.*)\]", text):
        return literal[1].replace(", ", " or ")
    if made := re.fullmatch(r"typing\.Callable\[.*, (.+)\]", text):
        return f"the class_path and init_args of {_readable(made[1])}"
    return {"NoneType": "null"}.get(text, re.sub(r"\b(?:\w+\.)+(?=\w)", "", text))
