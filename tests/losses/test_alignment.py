"""Losses of kind `alignment` against their definitions."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from losses.alignment import ring_l1


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.integers(0, 99))
def test_ring_l1_sums_mean_absolute_differences_around_the_ring(modalities, batch, dim, seed):
    features = torch.randn(modalities, batch, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    expected = sum(
        sum(abs(features[m, b, d] - features[(m + 1) % modalities, b, d]) for b in range(batch) for d in range(dim))
        / (batch * dim)
        for m in range(modalities)
    )
    torch.testing.assert_close(ring_l1(features), torch.as_tensor(expected, dtype=torch.float64))


def test_ring_l1_counts_the_pair_of_two_modalities_twice():
    assert ring_l1(torch.tensor([[[1.0]], [[4.0]]])) == 6


def test_ring_l1_moves_both_sides_of_a_difference():
    features = torch.tensor([[[1.0]], [[4.0]]], requires_grad=True)
    ring_l1(features).backward()
    assert features.grad.flatten().tolist() == [-2, 2]
