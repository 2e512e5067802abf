"""Which training patch each prototype was projected on: kept with the weights, so explanations need no data."""

from __future__ import annotations

import torch
from torch import Tensor, nn

ID_BYTES = 128
PATCH = 64  # pixels


class PrototypeSources(nn.Module):
    """Image, box and picture of the patch behind each prototype, the same on all ranks.

    Attributes:
        index: int64 [C, K], of the image in the training split; -1: never projected.
        name: uint8 [C, K, 128], the image's id in UTF-8, its end if it is longer, padded with zeros.
        box: float [C, K, 4]: left, top, right, bottom as shares of the image's width and height.
        patch: uint8 [C, K, 3, 64, 64], what is seen there.
    """

    index: Tensor
    name: Tensor
    box: Tensor
    patch: Tensor

    def __init__(self, num_classes: int, prototypes: int) -> None:
        super().__init__()
        shape = (num_classes, prototypes)
        self.register_buffer("index", torch.full(shape, -1))
        self.register_buffer("name", torch.zeros(*shape, ID_BYTES, dtype=torch.uint8))
        self.register_buffer("box", torch.zeros(*shape, 4))
        self.register_buffer("patch", torch.zeros(*shape, 3, PATCH, PATCH, dtype=torch.uint8))

    def image_id(self, number: int, prototype: int) -> str | None:
        """Id of the image that the prototype of a class comes from; `None` if it was never projected."""
        if int(self.index[number, prototype]) < 0:
            return None
        return bytes(self.name[number, prototype].tolist()).rstrip(b"\0").decode("utf-8", errors="ignore")


def encode(ids: list[str], device: torch.device) -> Tensor:
    """Ids as :class:`PrototypeSources` keeps them: uint8 [B, 128]."""
    rows = [text.encode()[-ID_BYTES:].ljust(ID_BYTES, b"\0") for text in ids]
    return torch.tensor([list(row) for row in rows], dtype=torch.uint8, device=device)
