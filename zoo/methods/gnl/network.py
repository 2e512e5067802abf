"""GNL's network: tensors in, tensors out."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TwoHeadNet(nn.Module):
    """A backbone with a head for the true label and one for the given label.

    The second sees the features and, without gradient, the logits of the first: it learns how labels go wrong from the
    image and the likely class, and trains the backbone but not the first head.

    Args:
        backbone: images to features [B, D]; tells D as `dim`.
        num_classes: C.
    """

    def __init__(self, backbone: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.clean = nn.Linear(backbone.dim, num_classes)
        self.noisy = nn.Linear(backbone.dim + num_classes, num_classes)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised images [B, 3, H, W] to logits of the true and of the given label, each [B, C]."""
        features = self.backbone(image)
        clean = self.clean(features)
        return clean, self.noisy(torch.cat([features, clean.detach()], dim=1))
