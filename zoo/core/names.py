"""Near misses: "Did you mean …?" for every name that a user can mistype."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from zoo.core.errors import UnknownNameError


def nearest(name: str, options: Iterable[str], n: int = 3) -> list[str]:
    """The at most `n` options that look most like `name`, best first; empty if none is close."""
    by_lower = {option.lower(): option for option in options}
    close = difflib.get_close_matches(name.lower(), by_lower, n=n, cutoff=0.55)
    return [by_lower[key] for key in close]


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """The second half of an error message: `Did you mean x?`, or the options if none is close and they are few."""
    options = sorted(options)
    if close := nearest(name, options):
        return f"Did you mean {' or '.join(close)}?"
    if not options:
        return "There are none."
    shown = ", ".join(options[:12])
    return f"There are: {shown}, … ({len(options)} in all)." if len(options) > 12 else f"There are: {shown}."


def unknown(what: str, name: str, options: Iterable[str]) -> UnknownNameError:
    """The error for a `name` that is none of `options`; `what` is the field's word, such as "method" or "loss"."""
    return UnknownNameError(f"{name!r} is not a known {what}. {did_you_mean(name, options)}")
