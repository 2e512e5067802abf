"""ShaSpec for classification: what it computes, that it learns, resumes and agrees over ranks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.support import avmnist
from tests.support.probes import state
from tests.support.runs import Run, train, uncut_and_resumed
from zoo.methods.shaspec.network import ShaSpecNet


def test_a_missing_modality_takes_the_shared_feature_of_the_other():
    network = ShaSpecNet(num_classes=3, dim=4, drop_rate=0.0)
    shared, specific = torch.randn(2, 5, 4), torch.randn(2, 5, 4)
    available = torch.ones(2, 5, dtype=torch.bool)
    available[0, 1] = available[1, 3] = False
    fused = network.fuse(shared, specific, available)
    assert torch.equal(fused[0, 1], shared[1, 1])
    assert torch.equal(fused[1, 3], shared[0, 3])
    residual = network.fusion(torch.cat([shared, specific], -1))
    torch.testing.assert_close(fused[available], (shared + residual)[available])


def test_alignment_ignores_samples_that_lack_a_modality():
    model, _ = avmnist.shaspec(None)
    shared = torch.randn(2, 6, 16, requires_grad=True)
    present = torch.ones(2, 6, dtype=torch.bool)
    present[1, 3:] = False
    found = model._align(shared, present)
    torch.testing.assert_close(found, 2 * (shared[0, :3] - shared[1, :3]).abs().mean())
    found.backward()
    assert shared.grad[:, 3:].abs().sum() == 0


def test_alignment_of_nothing_is_zero():
    model, _ = avmnist.shaspec(None)
    present = torch.tensor([[True, True], [False, False]])
    assert model._align(torch.randn(2, 2, 16), present) == 0


def test_domain_term_ignores_absent_modalities():
    model, _ = avmnist.shaspec(None)
    specific = torch.randn(2, 4, 16)
    present = torch.tensor([[True] * 4, [True, False, False, False]])
    logits = model.network.domain(specific)
    target = torch.tensor([[0] * 4, [1] * 4])
    expected = torch.nn.functional.cross_entropy(logits[present], target[present])
    torch.testing.assert_close(model._domain(specific, present), expected)


def test_a_step_uses_only_drawn_modalities_and_never_none():
    model, _ = avmnist.shaspec(None)
    present = torch.tensor([[True, True, False], [True, False, True]])
    drawn = model.drawn(present)
    assert not (drawn & ~present).any()
    assert drawn.any(0).all()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return Run(avmnist.shaspec, tmp_path_factory.mktemp("shaspec"), epochs=3, monitor="val/accuracy_image")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kill", ["mid-epoch", "last batch", "epoch end"])
def test_cut_and_resumed_equals_uncut(run, kill, workers):
    assert uncut_and_resumed(run, kill, workers) == []


@pytest.mark.slow
def test_two_ranks_equal_one(run):
    one = replace(run, build=avmnist.without_dropout, folder=run.folder / "one", probe=state)
    two = replace(run, build=avmnist.half_batch, folder=run.folder / "two", probe=state, ranks=2)
    (alone,), (first, second) = train(one), train(two)
    for key, value in alone["state"].items():
        assert np.array_equal(first["state"][key], second["state"][key]), key
        np.testing.assert_allclose(first["state"][key], value, atol=2e-6, rtol=1e-4, err_msg=key)
    for key, value in alone["metrics"].items():
        if key.startswith("val/"):
            assert {first["metrics"][key], second["metrics"][key]} == {value}
        else:
            assert (first["metrics"][key] + second["metrics"][key]) / 2 == pytest.approx(value, abs=1e-5)
