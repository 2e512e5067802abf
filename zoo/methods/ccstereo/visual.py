"""What CCStereo sees: a residual network and atrous spatial pyramid pooling."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.networks.frame_encoder import FrameEncoder

DILATIONS = (6, 12, 18)
BRANCH = 256  # channels of each branch of the pyramid


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: what is here, at three distances, and in the whole frame (Chen et al., 2017).

    Args:
        in_channels: of the backbone.
        dim: of the output, D.
    """

    def __init__(self, in_channels: int, dim: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [
                nn.Conv2d(in_channels, BRANCH, 1, bias=False),
                *(nn.Conv2d(in_channels, BRANCH, 3, padding=d, dilation=d, bias=False) for d in DILATIONS),
            ]
        )
        self.branch_norm = nn.BatchNorm2d(BRANCH * len(self.branches))
        self.reduce = nn.Conv2d(BRANCH * len(self.branches), dim, 1, bias=False)
        self.whole = nn.Conv2d(in_channels, BRANCH, 1, bias=False)
        self.whole_norm = nn.BatchNorm2d(BRANCH)
        self.whole_reduce = nn.Conv2d(BRANCH, dim, 1, bias=False)
        self.norm = nn.BatchNorm2d(dim)
        self.activation = nn.LeakyReLU(0.01)

    def forward(self, features: Tensor) -> Tensor:
        """Float [B, C, h, w] to [B, D, h, w]."""
        local = torch.cat([branch(features) for branch in self.branches], dim=1)
        local = self.reduce(self.activation(self.branch_norm(local)))
        whole = self.whole(features.mean((2, 3), keepdim=True))
        whole = self.whole_reduce(self.activation(self._normalised(whole)))
        return self.activation(self.norm(local + whole))

    def _normalised(self, whole: Tensor) -> Tensor:
        """One frame alone has one value per channel and no variance: what was seen before stands in for it."""
        norm = self.whole_norm
        if norm.training and len(whole) == 1:
            return F.batch_norm(whole, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        return norm(whole)


class VisualNet(nn.Module):
    """Frames to D features per position.

    Args:
        backbone, pretrained: as of :class:`~zoo.networks.frame_encoder.FrameEncoder`.
        dim: D.
    """

    def __init__(self, backbone: str, pretrained: Literal["imagenet"] | None, dim: int) -> None:
        super().__init__()
        self.backbone = FrameEncoder(backbone, pretrained)
        self.aspp = ASPP(self.backbone.num_features, dim)

    def forward(self, frames: Tensor) -> Tensor:
        """Normalised frames, float [B, 3, H, W], to [B, D, ⌈H/32⌉, ⌈W/32⌉]."""
        return self.aspp(self.backbone(frames))
