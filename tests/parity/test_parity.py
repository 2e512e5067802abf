"""The parity cases themselves."""

from __future__ import annotations

import functools
import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import zoo
from losses import registry
from tests.parity import harness
from tests.parity.harness import Case
from tests.parity.summary import PROPERTY

ROOT = harness.parity_root()
CASES = harness.collect(ROOT)
HANDLED = [case for case in CASES if (case.method, case.family) in harness.handlers()]
USES = [(case, used) for case in HANDLED for used in harness.handlers()[case.method, case.family].uses]


@pytest.mark.parametrize("case", HANDLED or [None], ids=lambda case: case.name if case else "none")
def test_case(case: Case | None, record_property):
    record_property(PROPERTY, case.name if case else "")
    if case is None:
        pytest.skip(f"There are no parity cases under {ROOT}; PARITY_ROOT names their folder.")
    problems = harness.problems(read(case.path))
    assert not problems, "\n".join([case.name, *problems])


@functools.lru_cache(maxsize=1)
def read(path: Path) -> Case:
    """A case of its own, whose weights (hundreds of MB) may go when the next one comes."""
    return Case(path)


def test_every_case_of_a_registered_method_has_a_handler():
    registered = zoo.list_models()
    missing = [case.name for case in harness.uncovered(CASES) if case.method in registered]
    assert not missing, f"no handler for {', '.join(missing)}"


@pytest.mark.parametrize(("case", "used"), USES, ids=[f"{case.name}-{used}" for case, used in USES])
def test_case_fails_when_a_function_it_uses_gives_zeros(case: Case, used: str, monkeypatch):
    calls = replace_by_zeros(used, monkeypatch)
    try:
        problems = harness.problems(read(case.path))
    except Exception as error:
        problems = [repr(error)]
    assert calls, f"the handler of {case.name} says that it uses {used}, and never calls it"
    assert problems, f"{case.name} passes although {used} gives zeros"


def replace_by_zeros(name: str, monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Put a function that gives zeros in the place of a function or method, of every import of it, and of it as a loss.

    One that returns nothing, by its annotation, does nothing.

    Returns:
        A list that gets an entry for every call.
    """
    owner, attribute = resolve(name)
    function, calls = getattr(owner, attribute), []
    idle = getattr(function, "__annotations__", {}).get("return", ...) in (None, "None")

    @functools.wraps(function)
    def zeros(*args: Any, **kwargs: Any) -> Any:
        calls.append(None)
        return None if idle else zeros_like(function(*args, **kwargs))

    monkeypatch.setattr(owner, attribute, zeros)
    for module in [*sys.modules.values()]:
        if getattr(module, "__name__", "").partition(".")[0] in ("zoo", "datamodules", "losses", "tests"):
            for key, value in [*vars(module).items()]:
                if value is function:
                    monkeypatch.setattr(module, key, zeros)
    for loss, (kind, value) in [*registry._registered.items()]:
        if value is function:
            monkeypatch.setitem(registry._registered, loss, (kind, zeros))
    return calls


def resolve(name: str) -> tuple[Any, str]:
    """The module or class that holds what a dotted name names, and the name's last part."""
    path, _, attribute = name.rpartition(".")
    try:
        return importlib.import_module(path), attribute
    except ModuleNotFoundError:
        owner, last = resolve(path)
        return getattr(owner, last), attribute


def zeros_like(value: Any) -> Any:
    match value:
        case Tensor():
            return value.masked_fill(torch.ones_like(value, dtype=torch.bool), 0)  # stays in the graph
        case np.ndarray():
            return np.zeros_like(value)
        case bool() | int() | float():
            return type(value)(0)
        case dict():
            return {key: zeros_like(item) for key, item in value.items()}
        case tuple() if hasattr(value, "_fields"):
            return type(value)(*map(zeros_like, value))
        case list() | tuple():
            return type(value)(map(zeros_like, value))
        case None:
            return None
    pytest.fail(f"it is not known what zeros in the place of {type(value).__name__} are")
