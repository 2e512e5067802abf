"""Losses of findings: what they compare, and that absent things do not count."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from losses.mean_teacher import map_cosine, prediction_gram
from losses.multi_label import finding_or_normal, label_cluster_cost, label_separation_hinge, separation


def test_a_finding_is_told_from_normal_by_a_softmax_over_the_two():
    logits, labels = torch.randn(3, 4), torch.tensor([[1.0, 0, 1, 0], [0, 0, 0, 1], [0, 1, 0, 0]])
    pairs = torch.stack([logits[:, -1:].expand(3, 3), logits[:, :-1]], 2).flatten(0, 1)
    expected = F.cross_entropy(pairs, labels[:, :-1].flatten().long())
    torch.testing.assert_close(finding_or_normal(logits, labels), expected)


def test_clusters_sum_over_labels_and_separation_takes_the_closest_other():
    distances = torch.tensor([[[1.0, 2.0], [3.0, 9.0], [0.5, 7.0]]])
    labels = torch.tensor([[1.0, 1.0, 0.0]])
    assert label_cluster_cost(distances, labels) == 4.0
    assert separation(distances, labels) == 0.5
    assert label_separation_hinge(distances, labels, margin=2.0) == 1.5
    assert label_separation_hinge(distances, labels, margin=0.1) == 0.0


def test_alignment_is_zero_for_equal_views_and_ignores_the_scale_of_maps():
    maps, logits = torch.rand(2, 5, 3, 3), torch.randn(4, 3)
    torch.testing.assert_close(map_cosine(maps, 3 * maps), torch.tensor(0.0), atol=1e-5, rtol=0)
    assert prediction_gram(logits, logits) == 0
    assert prediction_gram(logits, logits + 1) < 1e-10  # only the difference to normal counts
    assert prediction_gram(logits, -logits) > 0
