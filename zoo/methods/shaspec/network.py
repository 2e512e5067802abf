"""ShaSpec for unlike modalities: tensors in, tensors out."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from zoo.networks.avmnist import AudioEncoder, ImageEncoder


def _mlp(dim: int, drop_rate: float) -> nn.Sequential:
    return nn.Sequential(nn.ReLU(), nn.Dropout(drop_rate), nn.Linear(dim, dim))


class ShaSpecNet(nn.Module):
    """Shared and specific encoders, residual fusion, a classifier.

    Every modality has two stems of its own: one leads to its specific feature, the other projects it to the width in
    which the shared encoder, one for all modalities, works.

    Args:
        num_classes: C.
        dim: width of all features, D.
        drop_rate: dropout.
    """

    def __init__(self, num_classes: int, dim: int, drop_rate: float) -> None:
        super().__init__()
        encoders = {"image": ImageEncoder, "audio": AudioEncoder}
        self.projections = nn.ModuleDict({name: make(dim, drop_rate) for name, make in encoders.items()})
        self.shared = _mlp(dim, drop_rate)
        self.specific = nn.ModuleDict({name: make(dim, drop_rate) for name, make in encoders.items()})
        self.fusion = nn.Linear(2 * dim, dim)
        self.domain = nn.Linear(dim, len(encoders))
        self.head = nn.Sequential(
            nn.Linear(len(encoders) * dim, dim), nn.ReLU(), nn.Dropout(drop_rate), nn.Linear(dim, num_classes)
        )

    def encode(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Shared and specific features, each [M, B, D], in the order image, audio."""
        shared = torch.stack([self.shared(project(inputs[name])) for name, project in self.projections.items()])
        specific = torch.stack([encode(inputs[name]) for name, encode in self.specific.items()])
        return shared, specific

    def fuse(self, shared: Tensor, specific: Tensor, available: Tensor) -> Tensor:
        """Fused features [M, B, D].

        An available modality gets its shared feature plus a projection of both; a missing one the shared feature of
        the first available modality, as the released segmentation code does.

        Args:
            shared, specific: [M, B, D].
            available: bool [M, B], at least one per sample.
        """
        fused = shared + self.fusion(torch.cat([shared, specific], dim=-1))
        first = available.int().argmax(0)
        substitute = shared.gather(0, first[None, :, None].expand(1, -1, shared.shape[-1]))
        return torch.where(available[..., None], fused, substitute)

    def classify(self, fused: Tensor) -> Tensor:
        """[M, B, D] to logits [B, C]."""
        return self.head(fused.transpose(0, 1).flatten(1))
