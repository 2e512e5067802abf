"""A run killed at any point and resumed ends with the very bits of the run that was not cut."""

import pytest

from tests.support.runs import Run, uncut_and_resumed
from tests.toy.build import toy


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return Run(toy, tmp_path_factory.mktemp("toy"))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kill", ["mid-epoch", "last batch", "epoch end", "inside a pass"])
def test_cut_and_resumed_equals_uncut(run, kill, workers):
    assert uncut_and_resumed(run, kill, workers) == []
