"""Losses of kind `triplet`: (anchor [B, D], positive [B, D], negative [B, D])."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from losses.registry import register


@register("triplet_info_nce", kind="triplet")
def triplet_info_nce(anchor: Tensor, positive: Tensor, negative: Tensor, *, temperature: float = 0.1) -> Tensor:
    """Each row and its partner attract; all other samples' rows and all negatives repel (CCStereo's contrastive term).

    Rows are compared by cosine. Anchors and positives of a sample are each other's only attraction; each is held
    against the anchors and positives of other samples and against the negatives of all, its own sample's among them.
    Negatives attract nothing, yet count in the mean over all 3 B rows, as released.

    Args:
        anchor, positive, negative: float [B, D]. Gradients reach all three.
        temperature: above 0.
    """
    count = len(anchor)
    rows = F.normalize(torch.cat([anchor, positive, negative]).float(), dim=1)
    with torch.autocast(rows.device.type, enabled=False):
        logits = rows[: 2 * count] @ rows.T / temperature
    sample = torch.arange(2 * count, device=rows.device) % count
    same = F.pad(sample[:, None] == sample, (0, count))
    partner = logits.gather(1, torch.arange(2 * count, device=rows.device)[:, None].roll(count, 0))
    against = torch.logsumexp(torch.cat([logits.masked_fill(same, -torch.inf), partner], dim=1), dim=1)
    return (against - partner.squeeze(1)).sum() / (3 * count)
