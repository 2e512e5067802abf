"""Distillation losses against their definitions."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from losses.distillation import pairwise_l1


def made(modalities: int, batch: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    features = torch.randn(modalities, batch, 3, 2, generator=draw, dtype=torch.float64, requires_grad=True)
    return features, torch.rand(modalities, modalities, batch, generator=draw, dtype=torch.float64)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.integers(1, 3), st.integers(0, 99))
def test_pairwise_l1_sums_weighted_pairs_and_averages_samples(modalities, batch, seed):
    features, weight = made(modalities, batch, seed)
    pairs = [(t, s, n) for t in range(modalities) for s in range(modalities) for n in range(batch)]
    expected = sum(weight[t, s, n] * (features[t, n] - features[s, n]).abs().mean() for t, s, n in pairs) / batch
    torch.testing.assert_close(pairwise_l1(features, weight), expected)
    same = weight[..., :1].expand_as(weight)
    torch.testing.assert_close(pairwise_l1(features, same[..., 0]), pairwise_l1(features, same))


@pytest.mark.parametrize("teacher", range(3))
def test_pairwise_l1_teaches_students_and_never_the_teacher(teacher):
    features, weight = made(3, 2)
    only = torch.zeros_like(weight)
    only[teacher] = 1.0
    pairwise_l1(features, only).backward()
    taught = features.grad.flatten(1).abs().sum(1) > 0
    assert taught.tolist() == [modality != teacher for modality in range(3)]


def test_the_weights_of_pairwise_l1_get_no_gradient():
    features, weight = made(3, 2)
    weight.requires_grad_()
    pairwise_l1(features, weight).backward()
    assert weight.grad is None
