"""Does an explanation lie on the object? Measures of a heat map against the object's mask (ST-ProtoPNet, ICCV 2023)."""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor


class OnObject(NamedTuple):
    """Attributes:
    content: mean heat on the object (CH).
    outside_inside: mean heat beside it by mean heat on it (OIRR).
    iou: of the object and heat of at least 0.5.
    """

    content: Tensor
    outside_inside: Tensor
    iou: Tensor


def heat_map(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Mean of a class's prototype maps [K, h, w], upsampled (cubic) to the file's height and width, in [0, 1]."""
    large = F.interpolate(maps.mean(0)[None, None].float(), size, mode="bicubic")[0, 0]
    return (large - large.min()) / (large.max() - large.min()).clamp_min(1e-12)


def on_object(heat: Tensor, mask: Tensor, threshold: float = 0.5) -> OnObject:
    """Measures of one image.

    Args:
        heat: float [H, W] in [0, 1].
        mask: 1 on the object [H, W].
        threshold: heat that counts as the explanation, in the IoU.
    """
    mask, heat = mask.bool(), heat.double()
    inside, outside = heat[mask].mean(), heat[~mask].mean()
    hot = heat >= threshold
    return OnObject(inside, outside / inside, (hot & mask).sum().double() / (hot | mask).sum())
