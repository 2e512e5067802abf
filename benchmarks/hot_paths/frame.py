"""The frame: a piece of this project and its naive form, compared and timed."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Pair:
    """One piece of this project and the same in the form in which one would first write it.

    Attributes:
        ours, naive: functions of what `fresh` makes, which they may change.
        fresh: makes their argument; not timed.
        atol, rtol: how far results may differ, by rounding alone.
    """

    ours: Callable[[Any], Tensor]
    naive: Callable[[Any], Tensor]
    fresh: Callable[[], Any] = lambda: None
    atol: float = 0.0
    rtol: float = 0.0


@dataclass(frozen=True)
class Result:
    name: str
    ours: float  # seconds
    naive: float

    @property
    def ratio(self) -> float:
        """How many times faster than the naive form."""
        return self.naive / self.ours


PAIRS: dict[str, Callable[[bool], Pair]] = {}
"""By name: a function of whether inputs are small."""


def pair(make: Callable[[bool], Pair]) -> Callable[[bool], Pair]:
    PAIRS[make.__name__] = make
    return make


def compare(name: str, small: bool, seconds: float = 1.0) -> Result:
    """Check that both forms agree, then time them in turns; the fastest times count, as others only add noise.

    Raises:
        AssertionError: if they do not.
    """
    torch.manual_seed(0)
    made = PAIRS[name](small)
    torch.testing.assert_close(made.ours(made.fresh()), made.naive(made.fresh()), atol=made.atol, rtol=made.rtol)
    times: tuple[list[float], list[float]] = ([], [])
    began = time.perf_counter()
    while len(times[0]) < 3 or time.perf_counter() - began < seconds:
        for form, spent in zip((made.ours, made.naive), times, strict=True):
            argument = made.fresh()
            start = time.perf_counter()
            form(argument)
            spent.append(time.perf_counter() - start)
    return Result(name, *map(min, times))


def main(args: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hot_paths")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PAIRS)}; default: all")
    parser.add_argument("--small", action="store_true", help="the sizes that the tests use")
    asked = parser.parse_args(args)
    if stray := set(asked.names) - set(PAIRS):
        parser.error(f"no such pair: {', '.join(sorted(stray))}; there are {', '.join(PAIRS)}")
    print(f"{'':30}{'ours, ms':>12}{'naive, ms':>12}{'ratio':>8}")
    for name in asked.names or PAIRS:
        result = compare(name, asked.small)
        print(f"{name:30}{1000 * result.ours:12.2f}{1000 * result.naive:12.2f}{result.ratio:8.1f}", flush=True)
