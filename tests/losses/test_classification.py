"""Losses of kind `classification` against their definitions."""

import torch

from losses.classification import cross_entropy


def test_cross_entropy_is_the_mean_negative_log_probability_of_the_label():
    logits = torch.tensor([[1.0, 2.0, 0.5], [0.0, 0.0, 0.0]])
    labels = torch.tensor([1, 2])
    expected = -(logits.softmax(1).log()[torch.arange(2), labels]).mean()
    torch.testing.assert_close(cross_entropy(logits, labels), expected)


def test_label_smoothing_spreads_its_share_evenly_over_all_classes():
    logits = torch.tensor([[1.0, 2.0, 0.5, -1.0]])
    target = torch.full((1, 4), 0.2 / 4)
    target[0, 1] += 0.8
    expected = -(target * logits.log_softmax(1)).sum()
    torch.testing.assert_close(cross_entropy(logits, torch.tensor([1]), label_smoothing=0.2), expected)
