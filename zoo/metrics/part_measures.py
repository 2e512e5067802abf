"""Consistency, stability and purity of prototypes over a whole test set."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric

from zoo.metrics.part_hits import (
    class_purity,
    consistency,
    merge_sides,
    part_hits,
    patch_hits,
    patch_purity,
    peaks,
)

TOP = 10  # images per prototype that purity looks at


class PartMeasures(NamedTuple):
    """Shares in [0, 1], means over prototypes.

    Attributes:
        consistency: prototypes that meet one part in 80 % of the images of their class that show it.
        stability: cases in which they meet the same parts on a noisy image.
        purity: images of the class, of the 10 that excite a prototype most, in which it meets its commonest part.
        patch_purity: the same of all images, by PIP-Net's patches, of those that show the part.
    """

    consistency: float
    stability: float
    purity: float
    patch_purity: float


class PartMetric(Metric):
    """Collects what the measures need; exact under several processes and with a last short batch.

    Regions have the published half sizes, 36 and 16 pixels, and patches 32, of inputs of 224; of others in proportion.

    Args:
        num_classes, prototypes: C and K.
        part_names: of the Q annotated parts.
        size: of the square input, in pixels.
    """

    full_state_update = False
    higher_is_better = True

    def __init__(
        self, num_classes: int, prototypes: int, part_names: tuple[str, ...], size: int, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.names, self.size = list(part_names), size
        shape, parts = (num_classes, prototypes), len(part_names)
        merged = len(merge_sides(torch.zeros(parts, dtype=torch.bool), self.names))
        for name, dims in (("met", (*shape, parts)), ("visible", (num_classes, parts)), ("same", shape)):
            self.add_state(name, torch.zeros(dims, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("images", torch.zeros(num_classes, dtype=torch.int64), dist_reduce_fx="sum")
        # Of the images that excite each prototype most, first of its own class, then of all: how much, which parts
        # are met, and (of all) which are visible.
        for name, dims in (("own_hits", parts), ("patch_hits", merged), ("patch_visible", merged)):
            self.add_state(name, torch.zeros(TOP, *shape, dims, dtype=torch.bool), dist_reduce_fx="cat")
        for name in ("own_best", "patch_best"):
            self.add_state(name, torch.full((TOP, *shape), -torch.inf), dist_reduce_fx="cat")

    def scaled(self, pixels: int) -> int:
        """Pixels of an input of 224, for this one's size."""
        return max(round(pixels * self.size / 224), 1)

    def update(self, maps: Tensor, disturbed: Tensor, label: Tensor, parts: Tensor, size: Tensor) -> None:
        """Add a batch.

        Args:
            maps: of all prototypes [B, C, K, h, w].
            disturbed: of the true class's prototypes, on noisy images [B, K, h, w].
            label: int64 [B].
            parts: x, y in pixels of the file, and whether visible [B, Q, 3].
            size: height and width of the file, int64 [B, 2].
        """
        number = torch.arange(len(label), device=label.device)
        peak = peaks(maps[number, label], self.size)
        half, narrow = self.scaled(36), self.scaled(16)
        clean = part_hits(peak, parts, size, self.size, half)
        noisy = part_hits(peaks(disturbed, self.size), parts, size, self.size, half)
        visible = parts[..., 2] > 0
        self.met.index_add_(0, label, clean.long())
        self.visible.index_add_(0, label, visible.long())
        self.same.index_add_(0, label, (clean == noisy).all(-1).long())
        self.images.index_add_(0, label, torch.ones_like(label))

        shape, best = maps.shape[1:3], maps.flatten(3).amax(3)
        is_own = F.one_hot(label, shape[0]).bool()[:, :, None]
        hits = part_hits(peak, parts, size, self.size, narrow)[:, None].expand(-1, shape[0], -1, -1)
        self._keep("own_best", best.masked_fill(~is_own, -torch.inf), own_hits=hits)
        in_patch = merge_sides(patch_hits(maps.flatten(1, 2), parts, size, self.size, self.scaled(32)), self.names)
        seen = merge_sides(visible, self.names)[:, None, None].expand(-1, *shape, -1)
        self._keep("patch_best", best, patch_hits=in_patch.unflatten(1, shape), patch_visible=seen)

    def _keep(self, name: str, value: Tensor, **beside: Tensor) -> None:
        """Keep each prototype's highest values [B, C, K], and what stands beside them."""
        best, order = torch.cat([getattr(self, name), value]).topk(TOP, dim=0)
        setattr(self, name, best)
        for state, rows in beside.items():
            setattr(self, state, torch.cat([getattr(self, state), rows]).take_along_dim(order[..., None], 0))

    def compute(self) -> PartMeasures | None:
        """Means over the prototypes of the classes that were seen; `None` if none was."""
        seen = self.images > 0
        if not seen.any():
            return None
        visible = self.visible[seen, None].expand(-1, self.met.shape[1], -1)
        consistent = consistency(self.met[seen].flatten(0, 1), visible.flatten(0, 1))
        stable = self.same[seen].double() / self.images[seen, None]
        purity = class_purity(self.own_best[:, seen].flatten(1, 2), self.own_hits[:, seen].flatten(1, 2), TOP)
        order = self.patch_best.topk(TOP, dim=0).indices[..., None]
        hits, shown = (rows.take_along_dim(order, 0).sum(0) for rows in (self.patch_hits, self.patch_visible))
        purest, _ = patch_purity(hits[seen].flatten(0, 1), shown[seen].flatten(0, 1))
        return PartMeasures(*(float(value.double().mean()) for value in (consistent, stable, purity, purest)))
