"""Losses of kind `triplet` against their definitions."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from losses.triplet import triplet_info_nce


def by_rows(anchor: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor, temperature: float) -> float:
    """As published: all rows, positives of the same number, negatives of other ones."""
    count = len(anchor)
    rows = torch.cat([anchor, positive, negative]).double()
    rows = (rows / rows.norm(dim=1, keepdim=True)).tolist()
    ids = [*range(count), *range(count), *range(10_000, 10_000 + count)]
    total = 0.0
    for i, a in enumerate(rows):
        likeness = [sum(x * y for x, y in zip(a, b, strict=True)) / temperature for b in rows]
        others = sum(math.exp(s) for s, k in zip(likeness, ids, strict=True) if k != ids[i])
        mates = [j for j in range(3 * count) if j != i and ids[j] == ids[i]]
        rated = [likeness[j] - math.log(math.exp(likeness[j]) + others) for j in mates]
        total -= sum(rated) / max(len(rated), 1)
    return total / (3 * count)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 99), st.floats(0.05, 1))
def test_triplet_info_nce_is_the_published_sum(count, dim, seed, temperature):
    rows = torch.randn(3, count, dim, generator=torch.Generator().manual_seed(seed))
    found = float(triplet_info_nce(*rows, temperature=temperature))
    assert found == pytest.approx(by_rows(*rows, temperature), rel=1e-4, abs=1e-5)


def test_triplet_info_nce_does_not_depend_on_the_order_of_samples():
    rows = torch.randn(3, 6, 4)
    torch.testing.assert_close(triplet_info_nce(*rows), triplet_info_nce(*rows[:, torch.randperm(6)]))


def test_triplet_info_nce_draws_partners_near_and_pushes_negatives_away():
    anchor, positive, negative = (torch.randn(4, 8, requires_grad=True) for _ in range(3))
    triplet_info_nce(anchor, positive, negative).backward()
    with torch.no_grad():
        nearer = triplet_info_nce(anchor, positive + 0.5 * anchor, negative)
        farther = triplet_info_nce(anchor, positive, negative - 0.01 * negative.grad / negative.grad.norm())
        assert nearer < triplet_info_nce(anchor, positive, negative)
        assert farther < triplet_info_nce(anchor, positive, negative)
