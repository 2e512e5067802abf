"""Losses of kind `prototype`: (distances [B, C, K] to prototypes, each by its closest patch, labels int64 [B])."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from losses.registry import register


@register("cluster_cost", kind="prototype")
def cluster_cost(distances: Tensor, labels: Tensor) -> Tensor:
    """Distance of an image's closest patch to the closest prototype of its class (ProtoPNet), mean over samples."""
    return _own(distances.float(), labels).amin(1).mean()


@register("separation_cost", kind="prototype")
def separation_cost(distances: Tensor, labels: Tensor) -> Tensor:
    """Negated distance of an image's closest patch to the closest prototype of other classes (ProtoPNet), mean."""
    own = F.one_hot(labels, distances.shape[1]).bool()[:, :, None]
    return -distances.float().masked_fill(own, torch.inf).flatten(1).amin(1).mean()


def _own(distances: Tensor, labels: Tensor) -> Tensor:
    """[B, C, K] to those of the true class [B, K]."""
    return distances.take_along_dim(labels[:, None, None], 1)[:, 0]
