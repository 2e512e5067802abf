"""Channel statistics that image classifiers normalise by."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo.core.names import unknown

STATISTICS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.507, 0.487, 0.441), (0.267, 0.256, 0.276)),
    "clothing1m": ((0.6959, 0.6537, 0.6371), (0.3113, 0.3192, 0.3214)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
"""Mean and standard deviation of red, green and blue in [0, 1], as published with the data sets' benchmarks."""


class Normalise(nn.Module):
    """RGB images in [0, 1] to the normalised ones that a network was trained on.

    Its buffers follow from its argument, so checkpoints leave them out.

    Args:
        statistics: key of :data:`STATISTICS`.

    Raises:
        UnknownNameError: if there are no such statistics.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, statistics: str) -> None:
        super().__init__()
        if statistics not in STATISTICS:
            raise unknown("normalisation", statistics, STATISTICS)
        for name, values in zip(("mean", "std"), STATISTICS[statistics], strict=True):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Float [B, 1|3, H, W] to [B, 3, H, W]; grey images become RGB first."""
        return (image - self.mean) / self.std
