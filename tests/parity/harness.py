"""Parity: what this project computes against what published implementations gave for the same weights and inputs.

The cases lie in a folder outside the repository: METHOD/NAME.json says what a case computes, METHOD/NAME.npz holds
the published numbers, and fill.py generates weights and inputs from names, shapes and a salt. The environment variable
PARITY_ROOT names the folder.

A handler runs the cases of a family. It builds this project's objects, calls them, and returns the case's outputs by
name; it holds no formula of a method. It looks functions up through their module when it runs, and names them in
`uses`: a test replaces each in turn by one that gives zeros, and the case must fail.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import importlib
import importlib.util
import json
import math
import os
import pkgutil
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

REPOSITORY = Path(__file__).parents[2]
REQUIRED = "PARITY_REQUIRED"  # set: a case that is skipped fails


def parity_root() -> Path:
    """The folder of cases, whether or not it exists."""
    return Path(os.environ.get("PARITY_ROOT") or REPOSITORY.parent / "shared" / "parity")


# -- cases ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One case. Everything is read or generated when it is first asked for.

    Attributes:
        path: of the JSON file.
    """

    path: Path

    @property
    def method(self) -> str:
        return self.path.parent.name

    @property
    def family(self) -> str:
        """What a handler handles: cases whose names differ by a trailing _h1, _h2, … are of one family."""
        return re.sub(r"_h\d+$", "", self.path.stem)

    @property
    def name(self) -> str:
        return f"{self.method}/{self.path.stem}"

    @cached_property
    def facts(self) -> dict[str, Any]:
        return json.loads(self.path.read_text(encoding="utf-8"))

    @property
    def config(self) -> dict[str, Any]:
        return self.facts["config"]

    @property
    def salt(self) -> str:
        return self.facts["salt"]

    @property
    def outputs(self) -> dict[str, dict[str, Any]]:
        return self.facts["outputs"]

    @cached_property
    def inputs(self) -> dict[str, Tensor]:
        names = (name for name in self.facts["inputs"] if not name.startswith("state:"))
        return {name: self._input(name) for name in names}

    @cached_property
    def state(self) -> dict[str, Tensor]:
        """The published implementation's state dict."""
        filled = self._fill.fill_state(self.facts["state"], self.salt, self.facts["rules"])
        replaced = [name for name in self.facts["inputs"] if name.startswith("state:")]
        return {key: torch.from_numpy(array) for key, array in filled.items()} | {
            name.removeprefix("state:"): self._input(name) for name in replaced
        }

    @cached_property
    def stored(self) -> Mapping[str, np.ndarray]:
        """Published outputs by name, and stored inputs as `in.NAME`."""
        return np.load(self.path.with_suffix(".npz"), allow_pickle=False)

    def _input(self, name: str) -> Tensor:
        how = self.facts["inputs"][name]
        if how["kind"] == "stored":
            return torch.from_numpy(self.stored[f"in.{name}"])
        high = {"high": how["high"]} if "high" in how else {}
        return torch.from_numpy(self._fill.fill_input(name, how["shape"], self.salt, how["kind"], **high))

    @property
    def _fill(self) -> ModuleType:
        return _load_fill(self.path.parents[1])


@functools.cache
def _load_fill(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("parity_fill", root / "fill.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def collect(root: Path) -> list[Case]:
    return [Case(path) for path in sorted(root.glob("*/*.json"))]


# -- handlers ------------------------------------------------------------------------------------------------------

Run = Callable[[Case], Mapping[str, Any]]


@dataclass(frozen=True)
class Handler:
    run: Run
    uses: tuple[str, ...]


_handlers: dict[tuple[str, str], Handler] = {}


def handles(method: str, family: str, *, uses: tuple[str, ...]) -> Callable[[Run], Run]:
    """Decorator: make a function (case) -> {output: result} the handler of a family.

    Args:
        method: the cases' folder.
        family: their name.
        uses: dotted names of the project's functions, or methods of classes, from which the results come.
    """

    def decorate(run: Run) -> Run:
        assert (method, family) not in _handlers, f"{method}/{family} has two handlers"
        assert uses, f"the handler of {method}/{family} names no function of the project"
        _handlers[method, family] = Handler(run, uses)
        return run

    return decorate


def handlers() -> dict[tuple[str, str], Handler]:
    """All handlers of the modules in `handlers/`, by (method, family)."""
    package = importlib.import_module(f"{__package__}.handlers")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return _handlers


def uncovered(cases: list[Case]) -> list[Case]:
    """Cases without a handler."""
    known = handlers()
    return [case for case in cases if (case.method, case.family) not in known]


def problems(case: Case) -> list[str]:
    """Run a case by its handler and compare: empty if it passes."""
    case = Case(case.path)  # so that what it reads and generates is freed with it
    with _alone_if_large(case):
        return compare(case, handlers()[case.method, case.family].run(case))


LARGE = 100_000_000  # numbers in a state; such a case takes several GB


@contextlib.contextmanager
def _alone_if_large(case: Case) -> Iterator[None]:
    """Large cases run one at a time on a machine, whichever processes run them."""
    if sum(math.prod(shape) for _, shape, _ in case.facts["state"]) < LARGE:
        yield
        return
    with (Path(tempfile.gettempdir()) / "zoo-large-parity-case.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


# -- comparison ----------------------------------------------------------------------------------------------------

# What a case's own `comparison` may say of each scale, beside what is the rule anyway.
_CLAUSES = {
    "std": r"max\|a-b\| <= tol\*std\(stored\)",
    "abs": r"max\|a-b\| <= tol",
    "relative": r"\|a-b\| <= tol\*max\(\|stored\|, 1e-6\) per entry"
    r"(?P<stats> \(for \*_stats: relative to the second entry, the std\))?",
    "exact": r"equal",
}


def compare(case: Case, results: Mapping[str, Any]) -> list[str]:
    """One line for each output that is missing or differs by more than the case allows."""
    stats_by_std = _stats_by_std(case.facts.get("comparison", ""))
    found = []
    for name, how in case.outputs.items():
        if name not in results:
            found.append(f"{name}: the handler gives no such output")
            continue
        by_std = stats_by_std and name.endswith("_stats") and how["scale"] == "relative"
        if difference := _difference(results[name], case.stored[name], how, by_std):
            found.append(f"{name} ({how['meaning']}): {difference}")
    return found


def _stats_by_std(comparison: str) -> bool:
    """Whether `[mean, std]` outputs are measured by their std. Rules that are not known are refused, not guessed."""
    by_std = False
    for clause in filter(None, map(str.strip, comparison.split(";"))):
        scale, _, rule = clause.partition(":")
        match = re.fullmatch(_CLAUSES.get(scale, "(?!)"), rule.strip())
        if match is None:
            raise ValueError(f"the case compares by a rule that this harness does not know: {clause!r}")
        by_std |= bool(match.groupdict().get("stats"))
    return by_std


def _difference(result: Any, stored: np.ndarray, how: Mapping[str, Any], stats_by_std: bool) -> str | None:
    index = _index(how["slice"]) if "slice" in how else ...
    if how.get("per_row"):
        result = np.stack([_array(row)[index] for row in result])
    else:
        result = _array(result)
        if "full_shape" in how and list(result.shape) != how["full_shape"]:
            return f"shape {list(result.shape)}, should be {how['full_shape']}"
        result = result[index]
    if result.shape != stored.shape:
        return f"shape {list(result.shape)}, should be {list(stored.shape)}"
    if how["scale"] == "exact":
        wrong = int((result != stored).sum())
        return f"{wrong} of {stored.size} entries are not equal" if wrong else None
    reference = stored.astype(np.float64)
    scale = {
        "std": lambda: reference.std(),
        "abs": lambda: 1.0,
        "relative": lambda: np.maximum(np.abs(reference[1] if stats_by_std else reference), 1e-6),
    }[how["scale"]]()
    error, allowed = np.abs(result.astype(np.float64) - reference), how["tol"] * scale
    if (error <= allowed).all():  # which NaN is not
        return None
    return f"off by up to {error.max():.3g}; tolerance {how['tol']} ({how['scale']}) allows {np.max(allowed):.3g}"


def _array(value: Any) -> np.ndarray:
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)


def _index(text: str) -> tuple[Any, ...]:
    """The NumPy index that `text`, such as `[:, ::4, 0]`, writes."""

    def part(item: str) -> Any:
        if item == "...":
            return ...
        if ":" in item:
            return slice(*(int(bound) if bound else None for bound in item.split(":")))
        return int(item)

    return tuple(part(item.strip()) for item in text.strip("[]").split(","))
