from collections import Counter

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.held_out import ranks_within_classes, spread_share


@settings(max_examples=20, deadline=None)
@given(labels=st.lists(st.integers(0, 5), min_size=1, max_size=60), seed=st.integers(0, 100))
def test_ranks_count_each_class_from_zero(labels, seed):
    ranks = ranks_within_classes(torch.tensor(labels), np.random.default_rng(seed))
    for number, count in Counter(labels).items():
        assert sorted(ranks[np.array(labels) == number]) == list(range(count))


@settings(max_examples=20, deadline=None)
@given(labels=st.lists(st.integers(0, 5), min_size=1, max_size=60), share=st.floats(0, 1), seed=st.integers(0, 100))
def test_a_share_is_spread_over_the_classes(labels, share, seed):
    labels = torch.tensor(labels)
    chosen = torch.from_numpy(spread_share(labels, share, np.random.default_rng(seed)))
    assert chosen.sum() == round(share * len(labels))
    all_of, chosen_of = labels.bincount(minlength=6), labels[chosen].bincount(minlength=6)
    assert ((chosen_of - share * all_of).abs() <= 0.5 * (all_of > 0).sum() + 1).all()  # rounding of each class


def test_a_share_takes_as_much_of_a_rare_class_as_of_a_frequent_one():
    labels = torch.tensor([0] * 40 + [1] * 10)
    chosen = torch.from_numpy(spread_share(labels, 0.2, np.random.default_rng(0)))
    assert labels[chosen].bincount().tolist() == [8, 2]
