"""Out-of-distribution measures equal those of scikit-learn and their definitions."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.metrics.ood import likelihood, out_of_distribution, released_fpr95


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 100), st.booleans())
@settings(max_examples=30, deadline=None)
def test_measures_are_their_definitions(known_count, unknown_count, seed, ties):
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    known, unknown = rng.normal(1, 1, known_count), rng.normal(0, 1, unknown_count)
    if ties:
        known, unknown = known.round(), unknown.round()
    found = out_of_distribution(torch.from_numpy(known), torch.from_numpy(unknown))
    labels = np.r_[np.ones(known_count), np.zeros(unknown_count)]
    assert found.auroc == pytest.approx(metrics.roc_auc_score(labels, np.r_[known, unknown]))
    assert found.threshold == pytest.approx(np.percentile(known, 5))
    assert found.fpr95 == pytest.approx((unknown > found.threshold).mean())


def test_score_is_the_sum_over_classes_and_the_released_comparison_is_with_their_mean():
    log_likelihood = torch.tensor([[0.1, 0.2], [0.3, 0.4]]).log()
    torch.testing.assert_close(likelihood(log_likelihood), torch.tensor([0.3, 0.7]).double(), atol=1e-6, rtol=1e-6)
    known, unknown = torch.tensor([1.0] * 20), torch.tensor([1.5] * 4)
    assert out_of_distribution(known, unknown).fpr95 == 1
    assert released_fpr95(known, unknown, num_classes=2) == 0
