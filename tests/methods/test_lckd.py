"""LCKD: who is elected and who teaches whom."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zoo.methods.lckd import election

TABLES = st.lists(st.lists(st.integers(0, 3), min_size=4, max_size=4), min_size=3, max_size=3)


@given(TABLES)
def test_the_best_modality_of_each_region_teaches_and_of_equal_ones_the_first(table):
    scores = torch.tensor(table, dtype=torch.float32)
    best = [row.index(max(row)) for row in table]
    assert election.winners(scores).tolist() == best
    assert election.elect(scores).tolist() == [modality in Counter(best) for modality in range(4)]


@pytest.mark.parametrize("available", [[True, True, False], [[True, True], [True, False], [False, True]]])
def test_an_available_teacher_teaches_all_that_are_available(available):
    available = torch.tensor(available)
    taught = election.teaching(torch.tensor([False, True, True]), available)
    for teacher in range(3):
        for student in range(3):
            expected = available[teacher] & available[student] & (teacher != 0)
            assert torch.equal(taught[teacher, student].bool(), expected)
