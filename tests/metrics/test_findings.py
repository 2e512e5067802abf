"""Scores of findings equal scikit-learn's, also with ties, and are undefined where nothing can be ranked."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.metrics.findings import FindingMetric, finding_scores


@given(st.integers(0, 200), st.integers(2, 12))
@settings(max_examples=20, deadline=None)
def test_scores_equal_those_of_scikit_learn(seed, levels):
    sklearn = pytest.importorskip("sklearn.metrics")
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(levels, (30, 2), generator=generator) / levels
    labels = (torch.rand(30, 2, generator=generator) < 0.4).float()
    labels[:2] = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    found = finding_scores(scores, labels)
    for finding in range(2):
        score, label = scores[:, finding].numpy(), labels[:, finding].numpy()
        precision, recall, _ = sklearn.precision_recall_curve(label, score)
        f1 = (2 * precision * recall / (precision + recall).clip(1e-12)).max()
        assert found.auc[finding] == pytest.approx(sklearn.roc_auc_score(label, score))
        assert found.max_f1[finding] == pytest.approx(f1)


def test_a_finding_that_none_or_all_have_is_not_measured():
    labels = torch.tensor([[0.0, 1.0, 1.0], [0.0, 1.0, 0.0]])
    found = finding_scores(torch.tensor([[0.1, 0.2, 0.9], [0.3, 0.4, 0.1]]), labels)
    for value in found:
        assert value.isnan().tolist() == [True, True, False]
    assert found.auc[2] == 1


def test_batches_of_any_size_give_the_same():
    scores, labels = torch.rand(11, 3), (torch.rand(11, 3) < 0.5).float()
    metric = FindingMetric()
    for part in (slice(0, 4), slice(4, 10), slice(10, 11)):
        metric.update(scores[part], labels[part])
    for one, other in zip(metric.compute(), finding_scores(scores, labels), strict=True):
        torch.testing.assert_close(one, other, equal_nan=True)
