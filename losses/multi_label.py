"""Losses of images with several findings at once, of which the last class, "normal", is the absence.

Kind `multi_label`: (logits [B, C], labels float [B, C]). Kind `multi_label_prototype`: (distances [B, C, K] to
prototypes, each by its closest patch, labels float [B, C]).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from losses.registry import register
from zoo.core.distributed import mean_over_ranks


@register("finding_or_normal", kind="multi_label")
def finding_or_normal(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each finding against normal, a softmax over the two, mean over samples and findings."""
    logits = logits.float()
    return F.binary_cross_entropy_with_logits(logits[:, :-1] - logits[:, -1:], labels[:, :-1])


@register("label_cluster_cost", kind="multi_label_prototype")
def label_cluster_cost(distances: Tensor, labels: Tensor) -> Tensor:
    """Distance of the closest patch to the closest prototype of a label, summed over labels, mean over samples."""
    return (distances.float().amin(2) * labels).sum(1).mean()


@register("label_separation_hinge", kind="multi_label_prototype")
def label_separation_hinge(distances: Tensor, labels: Tensor, *, margin: float = 2.0) -> Tensor:
    """How far the mean distance to the closest prototype of classes that a sample lacks stays below a margin.

    Args:
        distances, labels: as of the kind.
        margin: beyond which there is nothing to gain.
    """
    return F.relu(margin - separation(distances, labels))


def separation(distances: Tensor, labels: Tensor) -> Tensor:
    """Distance of the closest patch to the closest prototype of classes that a sample lacks, mean over samples.

    The mean is over the samples of all ranks; those that have every class do not count.
    """
    lacks = labels < 0.5
    closest = distances.float().amin(2).masked_fill(~lacks, torch.inf).amin(1)
    counts = lacks.any(1)
    return mean_over_ranks(torch.where(counts, closest, 0.0).sum(), counts.sum())
