"""MCKD: importance weights and what they weigh."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from zoo.methods.mckd import importance

RAW = st.lists(st.floats(-3, 3), min_size=2, max_size=4)


@given(RAW)
def test_importance_is_positive_and_sums_to_one(raw):
    weights = importance.importance(torch.tensor(raw))
    assert (weights > 0).all()
    torch.testing.assert_close(weights.sum(), torch.tensor(1.0))


@given(RAW, st.data())
def test_a_pair_is_weighed_by_the_ratio_of_importances_if_both_are_available(raw, data):
    raw = torch.tensor(raw, dtype=torch.float64)
    available = torch.tensor([data.draw(st.lists(st.booleans(), min_size=3, max_size=3)) for _ in raw])
    weight, w = importance.teaching(raw, available), importance.importance(raw)
    for teacher in range(len(raw)):
        for student in range(len(raw)):
            both = available[teacher] & available[student] & (teacher != student)
            expected = torch.where(both, w[teacher] / w[student], 0.0)
            torch.testing.assert_close(weight[teacher, student], expected)
    torch.testing.assert_close(importance.teaching(raw, available[:, 0]), weight[..., 0])
