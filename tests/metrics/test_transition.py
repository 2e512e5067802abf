"""Transition matrices and their errors; accuracy by batches."""

from __future__ import annotations

import pytest
import torch

from zoo.metrics.batch_accuracy import BatchMeanAccuracy
from zoo.metrics.transition import (
    anchor_transition,
    label_counts,
    row_normalised,
    soft_transition,
    squared_transition_error,
    transition_error,
)


def test_certain_posteriors_give_the_true_matrix():
    clean, given = torch.tensor([0, 0, 1, 1, 1, 2]), torch.tensor([0, 1, 1, 1, 2, 2])
    true = row_normalised(label_counts(clean, given, 3))
    torch.testing.assert_close(true, torch.tensor([[0.5, 0.5, 0], [0, 2 / 3, 1 / 3], [0, 0, 1]]))
    hot = torch.eye(3)
    estimate = soft_transition(hot[clean], hot[given])
    torch.testing.assert_close(estimate, true)
    assert transition_error(estimate, true) == pytest.approx(0, abs=1e-6)
    assert squared_transition_error(estimate, true) == pytest.approx(0, abs=1e-9)


def test_a_class_that_nobody_has_leaves_a_row_of_zeros():
    found = row_normalised(label_counts(torch.tensor([0]), torch.tensor([1]), 2))
    assert torch.equal(found, torch.tensor([[0.0, 1.0], [0.0, 0.0]]))


def test_the_error_is_relative_to_the_matrix():
    assert transition_error(torch.eye(2), torch.full((2, 2), 0.5)) == pytest.approx(1)


def test_anchors_are_the_surest_samples():
    posterior = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    torch.testing.assert_close(anchor_transition(posterior), posterior[[0, 2]])


def test_a_short_last_batch_counts_as_much_as_a_full_one():
    metric = BatchMeanAccuracy()
    metric.update(torch.eye(2)[[0, 0, 0, 0]], torch.tensor([0, 0, 0, 0]))
    metric.update(torch.eye(2)[[0]], torch.tensor([1]))
    assert float(metric.compute()) == pytest.approx(0.5)
