"""Two processes with half the batch end where one process ends."""

import numpy as np
import pytest

from tests.support.probes import state
from tests.support.runs import Run, train
from tests.toy.build import half_batch, without_batch_statistics


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    (one,) = train(Run(without_batch_statistics, folder / "one", probe=state, every_n_steps=None))
    two = train(Run(half_batch, folder / "two", ranks=2, probe=state, every_n_steps=None))
    return one, two


def test_both_ranks_hold_the_same_state(runs):
    _, (first, second) = runs
    for key, value in first["state"].items():
        assert np.array_equal(value, second["state"][key]), key


def test_two_ranks_learn_what_one_learns(runs):
    one, (first, _) = runs
    for key, value in one["state"].items():
        np.testing.assert_allclose(first["state"][key], value, atol=1e-6, rtol=1e-5, err_msg=key)


def test_two_ranks_see_the_losses_of_one(runs):
    one, (first, second) = runs
    for key in ("train/loss", "train/loss/task", "train/loss/align"):
        mean = (first["metrics"][key] + second["metrics"][key]) / 2
        assert mean == pytest.approx(one["metrics"][key], abs=1e-6)


def test_evaluation_counts_each_of_13_samples_once(runs):
    one, two = runs
    assert {run["metrics"]["val/accuracy"] for run in two} == {one["metrics"]["val/accuracy"]}
