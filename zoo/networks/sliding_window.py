"""Prediction of whole volumes in overlapping windows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import Tensor

from zoo.core.extras import require

OVERLAP = 1 / 3


def sliding_window(predict: Callable[[Tensor], Tensor], images: Tensor, window: Sequence[int]) -> Tensor:
    """Average of the predictions of all windows that hold a voxel.

    Windows lie two thirds of their size apart, rounded up, the last ones shifted back to end where the volume does
    (ShaSpec, LCKD, MCKD). Volumes smaller than a window are centred in zeros.

    Args:
        predict: [1, C, *window] to [1, K, *window]; what it gives is averaged, so logits and probabilities differ.
        images: [1, C, D, H, W].
        window: depth, height, width.

    Returns:
        [1, K, D, H, W].
    """
    # MONAI rounds the distance down: half a voxel more makes it the published one.
    overlap = [1 - (math.ceil(size * (1 - OVERLAP)) + 0.5) / size for size in window]
    inferers = require("monai.inferers", "volumes")
    return inferers.sliding_window_inference(images, tuple(window), 1, predict, overlap=overlap)
