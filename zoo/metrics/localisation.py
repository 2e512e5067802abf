"""Weakly supervised localisation: do the maps of a finding, learned from labels alone, meet the boxes of experts?

Protocol: a map is upsampled (cubic) to the input's size and stretched to [0, 1]; its mask is where it is at least 0.5.
A box is scaled to the input, each of x, y, width and height truncated to whole pixels. The intersection over union of
mask and box is over pixels; T(IoU) is the share of boxes for which it exceeds T, per finding, then the mean over the
findings that have boxes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)


def scale_boxes(boxes: Tensor, size: Tensor, input_size: tuple[int, int]) -> Tensor:
    """Boxes x, y, width, height in pixels of the file, float [N, 4], to those of the input, int64 [N, 4].

    Args:
        boxes: as said.
        size: height and width of the files, [N, 2].
        input_size: height and width of the input.
    """
    factor = torch.tensor(input_size, device=boxes.device, dtype=torch.float64) / size
    return (boxes.double() * factor.flip(1).repeat(1, 2)).long()


def map_masks(maps: Tensor, input_size: tuple[int, int], binarise: float = 0.5) -> Tensor:
    """Maps [N, h, w] to masks, bool [N, H, W]."""
    large = F.interpolate(maps[:, None].float(), input_size, mode="bicubic")[:, 0]
    low, high = large.amin((1, 2), keepdim=True), large.amax((1, 2), keepdim=True)
    return (large - low) >= binarise * (high - low).clamp_min(1e-12)


def box_iou(masks: Tensor, boxes: Tensor) -> Tensor:
    """Intersection over union of masks, bool [N, H, W], and boxes x, y, width, height, int64 [N, 4]: float [N]."""
    x, y, width, height = boxes[:, :, None].unbind(1)
    row, column = (torch.arange(side, device=masks.device)[None] for side in masks.shape[1:])
    inside = ((row >= y) & (row < y + height))[:, :, None] & ((column >= x) & (column < x + width))[:, None]
    both, either = (masks & inside).sum((1, 2)), (masks | inside).sum((1, 2))
    return both / (either + 1e-8)


def share_above(iou: Tensor, thresholds: tuple[float, ...] = THRESHOLDS) -> Tensor:
    """Share of the boxes whose intersection over union [N] exceeds each threshold: float [T]."""
    return (iou[:, None] > torch.tensor(thresholds, device=iou.device)).float().mean(0)


class LocalisationMetric(Metric):
    """T(IoU) per finding over batches and ranks; the mean is over findings with boxes.

    Args:
        num_findings: F.
        binarise: where masks begin.
    """

    hits: Tensor
    boxes: Tensor

    def __init__(self, num_findings: int, binarise: float = 0.5) -> None:
        super().__init__()
        self.binarise = binarise
        self.add_state("hits", torch.zeros(num_findings, len(THRESHOLDS)), dist_reduce_fx="sum")
        self.add_state("boxes", torch.zeros(num_findings), dist_reduce_fx="sum")

    def update(self, maps: Tensor, boxes: Tensor, size: Tensor, input_size: tuple[int, int]) -> None:
        """Count the boxes of a batch.

        Args:
            maps: of all findings, float [B, F, h, w]; further classes may follow.
            boxes: class, x, y, width, height in pixels of the file, float [B, K, 5]; class -1: no box.
            size: height and width of the files, int64 [B, 2].
            input_size: height and width of the input.
        """
        row, place = (boxes[..., 0] >= 0).nonzero(as_tuple=True)  # sync: evaluation alone
        if len(row) == 0:
            return
        finding = boxes[row, place, 0].long()
        masks = map_masks(maps[row, finding], input_size, self.binarise)
        iou = box_iou(masks, scale_boxes(boxes[row, place, 1:], size[row], input_size))
        hits = (iou[:, None] > torch.tensor(THRESHOLDS, device=iou.device)).float()
        self.hits.index_add_(0, finding, hits)
        self.boxes.index_add_(0, finding, torch.ones_like(iou))

    def compute(self) -> Tensor:
        """Share of boxes met, per finding and threshold, float [F, T]; NaN where there is no box."""
        return torch.where(self.boxes[:, None] > 0, self.hits / self.boxes[:, None].clamp_min(1), torch.nan)
