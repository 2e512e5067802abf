"""MGProto's network: a map of unit features, and per class a mixture of Gaussians over them."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.networks.feature_map import FeatureMap
from zoo.state import GaussianMixture

FIXED_VARIANCE = 1 / (2 * math.pi)
"""With it a density is exp(-pi |f - mu|^2): at most 1, at its peak."""


class MGProtoNet(nn.Module):
    """Backbone, add-on layers, embedding, mixture.

    The mixture's buffers are not trained by gradient; who updates them is :class:`~zoo.methods.mgproto.em.PrototypeEM`.

    Args:
        backbone: one of :data:`zoo.networks.feature_map.NAMES`.
        pretrained: see :class:`~zoo.networks.feature_map.FeatureMap`.
        num_classes: C.
        prototypes: per class, K.
        dim: of the features that prototypes live among, D.
        embed_dim: of the embedding of the auxiliary loss, E.
        upsample: double the map before the add-on layers, as the published ResNet-50 does.
    """

    def __init__(
        self,
        backbone: str,
        pretrained: str | None,
        num_classes: int,
        prototypes: int,
        dim: int,
        embed_dim: int,
        upsample: bool,
    ) -> None:
        super().__init__()
        self.backbone = FeatureMap(backbone, pretrained)
        convolutions = [nn.Conv2d(self.backbone.channels, dim, 1), nn.Conv2d(dim, dim, 1)]  # nothing between: published
        before = [nn.Upsample(scale_factor=2, mode="bilinear")] if upsample else []
        self.add_on = nn.Sequential(*before, *convolutions)
        self.embedding = nn.Linear(self.backbone.channels, embed_dim)
        self.mixture = GaussianMixture(num_classes, prototypes, dim)
        for layer in convolutions:
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        nn.init.kaiming_normal_(self.embedding.weight, mode="fan_out")
        nn.init.zeros_(self.embedding.bias)
        self.mixture.means.copy_(F.normalize(torch.rand(num_classes, prototypes, dim), dim=-1))
        self.mixture.variances.fill_(FIXED_VARIANCE)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Images [B, 3, H, W], normalised, to unit features [B, D, h, w] and unit embeddings [B, E], float32."""
        features = self.backbone(image)
        return self.unit_features(features), self.embed(features)

    def unit_features(self, features: Tensor) -> Tensor:
        """The backbone's map [B, channels, h', w'] to unit vectors over channels [B, D, h, w]."""
        return F.normalize(self.add_on(features).float(), dim=1)

    def embed(self, features: Tensor) -> Tensor:
        """The backbone's map to unit vectors [B, E]."""
        return F.normalize(self.embedding(features.mean((2, 3))).float(), dim=1)

    def log_density(self, unit: Tensor) -> Tensor:
        """Unit features [B, D, h, w] to the log density of each location under each prototype [B, h·w, C, K]."""
        rows = unit.flatten(2).mT
        return self.mixture.log_density(rows.flatten(0, 1)).unflatten(0, rows.shape[:2])


class Mined(NamedTuple):
    """What training takes from a batch.

    Attributes:
        levels: log of the prior-weighted k-th best densities of each class [B, C, T].
        location: where each prototype of the true class fits best, flat, int64 [B, K].
    """

    levels: Tensor
    location: Tensor


def class_log_likelihood(log_density: Tensor, priors: Tensor) -> Tensor:
    """log p(x|c) of images: each prototype counts where it fits best (level 1).

    Args:
        log_density: [B, N, C, K] of N locations.
        priors: [C, K].

    Returns:
        [B, C].
    """
    return (log_density.amax(1) + priors.log()).logsumexp(-1)


def best_levels(log_density: Tensor, priors: Tensor, levels: int) -> Tensor:
    """Log of the prior-weighted k-th best densities of every class, k up to `levels` (or N): [B, C, T]."""
    best = log_density.topk(min(levels, log_density.shape[1]), dim=1).values
    return (best + priors.log()).logsumexp(-1).movedim(1, -1)


def mine(log_density: Tensor, priors: Tensor, labels: Tensor, levels: int) -> Mined:
    """Top-T mining: the true class by its k-th best locations, each other class by its best one at every level.

    So only the true class's K prototypes need more than a maximum.

    Args:
        log_density: [B, N, C, K] of N locations.
        priors: [C, K].
        labels: int64 [B].
        levels: T; more than there are locations are as many as there are.
    """
    log_priors = priors.log()
    first = (log_density.amax(1) + log_priors).logsumexp(-1)
    own = log_density.take_along_dim(labels[:, None, None, None], 2)[:, :, 0]
    best, location = own.topk(min(levels, own.shape[1]), dim=1)
    of_true = (best + log_priors[labels][:, None]).logsumexp(-1)
    is_true = F.one_hot(labels, len(priors)).bool()
    return Mined(torch.where(is_true[:, :, None], of_true[:, None], first[:, :, None]), location[:, 0])


def rows_to_remember(unit: Tensor, location: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The features where the true class's prototypes fit best, each location of an image once, in ascending order.

    Args:
        unit: [B, D, h, w].
        location: flat, int64 [B, K].
        labels: int64 [B].

    Returns:
        Features [B·K, D] without gradient, and their classes int64 [B·K]: -1 for a location that an image repeats.
    """
    ascending = location.sort(1).values
    repeated = torch.zeros_like(ascending, dtype=torch.bool)
    repeated[:, 1:] = ascending[:, 1:] == ascending[:, :-1]
    rows = unit.detach().flatten(2).mT.take_along_dim(ascending[:, :, None], 1)
    return rows.flatten(0, 1), torch.where(repeated, -1, labels[:, None]).flatten()
