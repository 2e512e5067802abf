"""Encoders of a 28×28 digit and of a spoken digit's MFCCs, shared by all methods that run on AV-MNIST."""

from __future__ import annotations

from torch import Tensor, nn


class ImageEncoder(nn.Module):
    """Two convolutions in LeNet's manner, then a linear layer. No BatchNorm: absent images share the batch.

    Args:
        dim: width of the output, D.
        drop_rate: dropout before the linear layer.
    """

    def __init__(self, dim: int, drop_rate: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(drop_rate),
            nn.Linear(32 * 7 * 7, dim),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Float [B, 1, 28, 28] in [0, 1] to [B, D]."""
        return self.layers((image - 0.5) / 0.5)


class AudioEncoder(nn.Module):
    """Two convolutions over 20 coefficients × 20 frames, then a linear layer. No BatchNorm.

    Args:
        dim: width of the output, D.
        drop_rate: dropout before the linear layer.
    """

    def __init__(self, dim: int, drop_rate: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1),
            nn.GroupNorm(4, 32),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 32, 3, padding=1),
            nn.GroupNorm(4, 32),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(drop_rate),
            nn.Linear(32 * 5 * 5, dim),
        )

    def forward(self, mfcc: Tensor) -> Tensor:
        """Float [B, 1, 20, 20], as :class:`zoo.networks.mfcc.MFCC` gives them, to [B, D]."""
        return self.layers(mfcc / 50)  # the first coefficient is of the order of 100, the others of 10
