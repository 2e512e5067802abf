"""MCKD for an image and a sound: tensors in, tensors out."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from zoo.networks.availability import fill_with_mean
from zoo.networks.avmnist import AudioEncoder, ImageEncoder


class MCKDNet(nn.Module):
    """Every modality is projected to a common width, in which one encoder, shared by all, works; then a classifier.

    Args:
        num_classes: C.
        dim: width of all features, D.
        drop_rate: dropout.
    """

    def __init__(self, num_classes: int, dim: int, drop_rate: float) -> None:
        super().__init__()
        encoders = {"image": ImageEncoder, "audio": AudioEncoder}
        self.projections = nn.ModuleDict({name: make(dim, drop_rate) for name, make in encoders.items()})
        self.shared = nn.Sequential(nn.ReLU(), nn.Dropout(drop_rate), nn.Linear(dim, dim))
        self.head = nn.Sequential(
            nn.Linear(len(encoders) * dim, dim), nn.ReLU(), nn.Dropout(drop_rate), nn.Linear(dim, num_classes)
        )

    def encode(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Features [M, B, D], in the order image, audio."""
        return torch.stack([self.shared(project(inputs[name])) for name, project in self.projections.items()])

    def classify(self, features: Tensor, available: Tensor) -> Tensor:
        """Features and bool [M, B] to logits [B, C]; missing features are filled from available ones."""
        return self.head(fill_with_mean(features, available).transpose(0, 1).flatten(1))
