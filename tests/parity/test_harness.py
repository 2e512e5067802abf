"""The harness: that it measures as the cases say, and that nothing slips through."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import losses.alignment
import zoo
from tests.parity import harness, test_parity
from tests.parity.harness import Case, compare

FILL = """
import numpy as np
def fill_state(state, salt="a", rules=None):
    return {key: np.full(shape, len(salt), dtype=dtype) for key, shape, dtype in state}
def fill_input(name, shape, salt="a", kind="normal", high=2):
    return np.full(shape, high, dtype="float32")
"""
CCSTEREO = (
    "std: max|a-b| <= tol*std(stored); relative: |a-b| <= tol*max(|stored|, 1e-6) per entry "
    "(for *_stats: relative to the second entry, the std); exact: equal"
)


def write_case(root: Path, stored: dict, outputs: dict | None = None, name: str = "toy/thing_h12", **facts) -> Case:
    root.joinpath("fill.py").write_text(FILL)
    path = root / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    arrays = {key: np.asarray(value) for key, value in stored.items()}
    outputs = {key: {"shape": list(arrays[key].shape), "meaning": "m"} | how for key, how in (outputs or {}).items()}
    default = {"what": "", "config": {}, "salt": "abc", "state": [], "rules": [], "inputs": {}, "steps": []}
    path.write_text(json.dumps(default | facts | {"outputs": outputs}))
    np.savez(path.with_suffix(".npz"), **arrays)
    return Case(path)


@pytest.mark.parametrize(
    ("scale", "stored", "within", "beyond"),
    [
        ("std", [0.0, 2.0], [0.0009, 2.0009], [0.0, 2.0011]),  # std 1
        ("abs", [0.0, 500.0], [0.0009, 499.9991], [0.0, 500.0011]),
        ("relative", [1.0, 500.0], [1.0009, 500.49], [1.0011, 500.0]),
        ("relative", [0.0], [0.9e-9], [1.1e-9]),
        ("exact", [1, 2], [1.0, 2.0], [1.0, 2.0000001]),
        ("std", [1.0, 2.0], [1.0, 2.0], [1.0, float("nan")]),
        ("std", [1.0, 2.0], [1.0, 2.0], [[1.0, 2.0]]),
    ],
)
def test_each_scale_allows_its_tolerance_and_no_more(tmp_path, scale, stored, within, beyond):
    case = write_case(tmp_path, {"x": stored}, {"x": {"tol": 1e-3, "scale": scale}})
    assert not compare(case, {"x": np.array(within)})
    assert not compare(case, {"x": torch.tensor(within, dtype=torch.float64, requires_grad=True)})
    assert compare(case, {"x": np.array(beyond)})


def test_missing_output_is_a_problem(tmp_path):
    case = write_case(tmp_path, {"x": [1.0]}, {"x": {"tol": 1, "scale": "abs"}})
    assert compare(case, {"y": [1.0]}) == ["x: the handler gives no such output"]


@pytest.mark.parametrize("text", ["[:, ::4]", "[..., 1:3]", "[0, :, ::2]", "[:, -1]", "[::2]"])
def test_stored_slice_is_taken_of_the_full_result(tmp_path, text):
    full = np.random.default_rng(0).normal(size=(4, 5, 6))
    stored = eval(f"full{text}", {"full": full})
    how = {"tol": 0.0, "scale": "std", "slice": text, "full_shape": [4, 5, 6]}
    case = write_case(tmp_path, {"x": stored}, {"x": how})
    assert not compare(case, {"x": full})
    assert compare(case, {"x": full[:3]})
    assert compare(case, {"x": full[::-1]})


def test_slice_per_row_takes_rows_one_by_one(tmp_path):
    rows = list(np.random.default_rng(0).normal(size=(3, 2, 4)))
    how = {"tol": 0.0, "scale": "std", "slice": "[0, ::2]", "per_row": True}
    case = write_case(tmp_path, {"x": np.stack([row[0, ::2] for row in rows])}, {"x": how})
    assert not compare(case, {"x": rows})
    assert not compare(case, {"x": torch.from_numpy(np.stack(rows))})


def test_case_can_measure_statistics_by_the_std(tmp_path):
    outputs = {name: {"tol": 1e-2, "scale": "relative"} for name in ("x", "x_stats")}
    stored = {"x": [0.001, 2.0], "x_stats": [0.001, 2.0]}
    result = {"x": [0.001, 2.0], "x_stats": [0.02, 2.0]}
    assert compare(write_case(tmp_path, stored, outputs), result)
    assert not compare(write_case(tmp_path, stored, outputs, comparison=CCSTEREO), result)
    assert compare(write_case(tmp_path, stored, outputs, comparison=CCSTEREO), result | {"x": [0.02, 2.0]})


def test_rule_of_comparison_that_is_not_known_is_refused(tmp_path):
    case = write_case(tmp_path, {"x": [1.0]}, {"x": {"tol": 1, "scale": "abs"}}, comparison="abs: anything goes")
    with pytest.raises(ValueError, match="anything goes"):
        compare(case, {"x": [1.0]})


def test_inputs_and_state_are_generated_or_stored(tmp_path):
    inputs = {
        "a": {"shape": [2], "kind": "int", "high": 7},
        "b": {"kind": "stored", "shape": [1], "dtype": "int16"},
        "state:w": {"kind": "stored", "shape": [2], "dtype": "float32"},
    }
    stored = {"in.b": np.array([5], "int16"), "in.state:w": np.array([8, 9], "float32")}
    state = [["w", [2], "float32"], ["v", [1], "int64"]]
    case = write_case(tmp_path, stored, inputs=inputs, state=state)
    assert {name: value.tolist() for name, value in case.inputs.items()} == {"a": [7, 7], "b": [5]}
    assert {name: value.tolist() for name, value in case.state.items()} == {"w": [8, 9], "v": [3]}
    assert (case.method, case.family, case.name) == ("toy", "thing", "toy/thing_h12")


@pytest.fixture
def toy(tmp_path, monkeypatch) -> Case:
    """A case that has a handler, which gives what is stored."""
    case = write_case(tmp_path, {"x": [1.0]}, {"x": {"tol": 0.1, "scale": "abs"}})
    handler = harness.Handler(lambda case: {"x": [1.0]}, ("datamodules.brats.labels_to_regions",))
    monkeypatch.setitem(harness._handlers, ("toy", "thing"), handler)
    return case


def test_handler_that_ignores_the_projects_function_is_found_out(toy, monkeypatch):
    test_parity.test_case(toy, lambda *_: None)
    with pytest.raises(AssertionError, match="never calls it"):
        test_parity.test_case_fails_when_a_function_it_uses_gives_zeros(
            toy, "datamodules.brats.labels_to_regions", monkeypatch
        )


def test_zeros_replace_a_function_wherever_it_was_imported(monkeypatch):
    monkeypatch.setattr(harness, "an_import", losses.alignment.ring_l1, raising=False)
    calls = test_parity.replace_by_zeros("losses.alignment.ring_l1", monkeypatch)
    for function in (losses.alignment.ring_l1, harness.an_import):
        features = torch.ones(2, 3).cumsum(0).requires_grad_()
        loss = function(features)
        loss.backward()
        assert loss == 0
        assert not features.grad.any()
    assert len(calls) == 2


@pytest.mark.parametrize("registered", [True, False])
def test_case_without_a_handler_fails_where_the_method_is_registered(tmp_path, monkeypatch, registered):
    monkeypatch.setattr(test_parity, "CASES", [write_case(tmp_path, {})])
    monkeypatch.setattr(zoo, "list_models", lambda: ["toy"] if registered else ["toy_classifier"])
    if registered:
        with pytest.raises(AssertionError, match="toy/thing_h12"):
            test_parity.test_every_case_of_a_registered_method_has_a_handler()
    else:
        test_parity.test_every_case_of_a_registered_method_has_a_handler()


def test_without_cases_the_run_skips_and_says_how_to_name_their_folder():
    with pytest.raises(pytest.skip.Exception, match="PARITY_ROOT"):
        test_parity.test_case(None, lambda *_: None)


def run_pytest(root: Path, *options: str, **environment: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/parity/test_parity.py", *options]
    environment = os.environ | {"PARITY_ROOT": str(root)} | environment
    done = subprocess.run(command, cwd=harness.REPOSITORY, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout


@pytest.mark.slow
def test_run_in_several_processes_ends_with_one_line_that_counts(tmp_path):
    write_case(tmp_path, {"x": [1.0]}, {"x": {"tol": 1, "scale": "abs"}})
    draws = {"draws": {"tol": 0.0, "scale": "exact"}}
    config = {"seeds": [0], "draws": 1, "max_available": 1}
    write_case(tmp_path, {"draws": [[[1, -1]]]}, draws, name="shaspec/mode_draws_h1", config=config)
    code, output = run_pytest(tmp_path, "-n", "1")
    assert re.findall(r"^parity: .*", output, re.MULTILINE) == ["parity: 1 passed, 0 skipped, 1 uncovered"]
    assert "not covered: toy 1: thing_h12" in output
    assert code == 0


@pytest.mark.slow
def test_required_cases_that_are_absent_fail_the_run(tmp_path):
    code, output = run_pytest(tmp_path / "none", **{harness.REQUIRED: "1"})
    assert "parity: 0 passed, 0 skipped, 0 uncovered" in output
    assert code == 1
