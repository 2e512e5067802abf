"""ShaSpec for volumes: what it computes, that it resumes and agrees over ranks."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from benchmarks.volume_memory import kept_bytes
from tests.support import brats
from tests.support.probes import state
from tests.support.runs import Run, train, uncut_and_resumed
from zoo.methods.shaspec.volume_module import ShaSpec
from zoo.methods.shaspec.volume_network import ShaSpecVolumeNet


@pytest.fixture(scope="module")
def network() -> ShaSpecVolumeNet:
    torch.manual_seed(0)
    return ShaSpecVolumeNet(modalities=3, regions=2, width=2).double()


def test_a_missing_modality_takes_the_shared_feature_of_the_first_available(network):
    images = torch.randn(2, 3, 16, 64, 32).double()
    available = [[2, 0], [1]]
    encodings = network.encode(images, available)
    filled = network.fill(encodings, available)
    shared = network.shared_features(encodings, available)
    assert torch.equal(filled[0, 1], shared[0, 2])
    assert torch.equal(filled[1, 0], shared[1, 1])
    specific, _ = network.specific_encoders[2](images[:1, 2:])
    torch.testing.assert_close(filled[0, 2], network.fuse(shared[:1, 2], specific)[0])
    other = [[0, 2], [1]]
    assert torch.equal(network.fill(network.encode(images, other), other)[0, 1], shared[0, 0])


def test_the_domain_of_a_missing_modality_is_told_from_a_zero_volume(network):
    images = torch.randn(2, 3, 16, 32, 32).double()
    zeroed = images.clone()
    zeroed[:, 1] = 0
    found = network.domain_logits(network.encode(images, [[2, 0]] * 2), images)
    everything = [[0, 1, 2]] * 2
    torch.testing.assert_close(found, network.domain_logits(network.encode(zeroed, everything), zeroed))


def test_where_nothing_is_available_all_is_zero_volumes(network):
    images = torch.full((1, 3, 16, 32, 32), float("nan")).double()
    zeros = torch.zeros_like(images)
    logits = network(images, [[]])
    assert logits.isfinite().all()
    assert torch.equal(logits, network(zeros, [[]]))


def test_recomputing_activations_keeps_fewer_of_them():
    kept = [kept_bytes(ShaSpec(width=4, checkpointing=on), (16, 32, 32)) for on in (False, True)]
    assert kept[1] < 0.7 * kept[0]


def test_gradients_are_zeroed_so_that_momentum_goes_on_where_a_modality_is_missing():
    model = ShaSpec(width=2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    parameter = model.network.domain.bias
    parameter.grad = torch.ones_like(parameter)
    model.optimizer_zero_grad(0, 0, optimizer)
    assert torch.equal(parameter.grad, torch.zeros_like(parameter))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return Run(brats.shaspec, tmp_path_factory.mktemp("brats") / "runs", epochs=2, monitor="val/dice", find_unused=True)


@pytest.mark.slow
@pytest.mark.parametrize("kill", ["mid-epoch", "last batch"])
def test_cut_and_resumed_equals_uncut(run, kill):
    assert uncut_and_resumed(run, kill, workers=0) == []


@pytest.mark.slow
def test_two_ranks_equal_one(run):
    one = replace(run, build=brats.shaspec_in_double, folder=run.folder.parent / "ranks/one", probe=state, epochs=1)
    half = partial(brats.shaspec_in_double, batch_size=1)
    two = replace(one, build=half, folder=one.folder.parent / "two", ranks=2)
    (alone,), (first, second) = train(one), train(two)
    for key, value in alone["state"].items():
        assert np.array_equal(first["state"][key], second["state"][key]), key
        np.testing.assert_allclose(first["state"][key], value, atol=1e-9, rtol=1e-7, err_msg=key)
    assert first["metrics"]["val/dice"] == pytest.approx(alone["metrics"]["val/dice"], abs=1e-6)
