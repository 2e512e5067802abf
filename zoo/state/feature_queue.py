"""What a class looked like lately: a first-in-first-out queue of features per class."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo.core.distributed import gather_rows


class ClassQueue(nn.Module):
    """The last `size` features of each class, the same on all ranks.

    A ring buffer per class. Shapes: C classes, K = `size`, D features.

    Attributes:
        features: [C, K, D], as written; slots that were never written hold zeros.
        pointer: int64 [C], the slot that is written next.
        count: int64 [C], slots in use.
    """

    features: Tensor
    pointer: Tensor
    count: Tensor

    def __init__(self, num_classes: int, size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("features", torch.zeros(num_classes, size, dim))
        self.register_buffer("pointer", torch.zeros(num_classes, dtype=torch.int64))
        self.register_buffer("count", torch.zeros(num_classes, dtype=torch.int64))

    @property
    def valid(self) -> Tensor:
        """bool [C, K]: slots in use."""
        return torch.arange(self.features.shape[1], device=self.count.device) < self.count[:, None]

    @property
    def is_full(self) -> Tensor:
        """bool [C]: classes whose slots are all in use."""
        return self.count == self.features.shape[1]

    @torch.no_grad()
    def push(self, features: Tensor, labels: Tensor) -> None:
        """Append the features of all ranks, in rank order and within a rank in row order; the oldest leave.

        A collective: all ranks call it. The same as pushing the rows one by one, also when one class gets more than
        K of them. Rows whose label is not in 0 … C-1 (padding, an ignored class) are left out: raising would take a
        host synchronisation per step.

        Args:
            features: float [N, D]; N may differ between ranks.
            labels: int64 [N].
        """
        features, labels = gather_rows(features.to(self.features.dtype)), gather_rows(labels)
        if labels.numel() == 0:
            return
        num_classes, size, dim = self.features.shape
        labels = torch.where((labels >= 0) & (labels < num_classes), labels, num_classes)
        labels, order = labels.sort(stable=True)
        features = features[order]

        arrived = torch.zeros(num_classes + 1, dtype=torch.int64, device=labels.device)
        arrived.scatter_add_(0, labels, torch.ones_like(labels))
        first = arrived.cumsum(0) - arrived
        rank_in_class = torch.arange(len(labels), device=labels.device) - first[labels]
        stays = (labels < num_classes) & (rank_in_class >= arrived[labels] - size)
        owner = labels.clamp(max=num_classes - 1)
        slots = owner * size + (self.pointer[owner] + rank_in_class) % size

        # Rows that do not stay repeat what the first class's last row writes (or, if no row stays, rewrite slot 0):
        # selecting by a mask would synchronise, and writing two values to one slot has no defined result.
        ring = self.features.view(-1, dim)
        last = arrived[labels[:1]] - 1
        slots = torch.where(stays, slots, torch.where(stays[last], slots[last], 0))
        spare = torch.where(stays[last], features[last], ring[:1])
        ring[slots] = torch.where(stays[:, None], features, spare)

        arrived = arrived[:num_classes]
        self.pointer.add_(arrived).remainder_(size)
        self.count.add_(arrived).clamp_(max=size)

    def ordered(self) -> Tensor:
        """[C, K, D]: each class's features from oldest to newest in its first `count` rows, then zeros."""
        size = self.features.shape[1]
        oldest = torch.where(self.is_full, self.pointer, 0)
        slots = (oldest[:, None] + torch.arange(size, device=oldest.device)) % size
        return self.features.take_along_dim(slots[:, :, None], dim=1)

    @torch.no_grad()
    def clear(self, classes: Tensor) -> None:
        """Forget the features of some classes.

        Args:
            classes: bool [C].
        """
        self.features.masked_fill_(classes[:, None, None], 0)
        self.pointer.masked_fill_(classes, 0)
        self.count.masked_fill_(classes, 0)
