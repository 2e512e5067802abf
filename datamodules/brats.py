"""BraTS: brain tumours in four MRI sequences.

Annotated values: 0 background, 1 necrotic and non-enhancing core, 2 oedema, 4 enhancing tumour. Networks predict three
overlapping regions, in this order everywhere: ET, enhancing tumour; WT, whole tumour; TC, tumour core.
"""

from __future__ import annotations

import torch
from torch import Tensor

REGIONS = ("ET", "WT", "TC")


def labels_to_regions(labels: Tensor) -> Tensor:
    """Regions of an annotated volume.

    Args:
        labels: integer [..., D, H, W], values 0, 1, 2, 4.

    Returns:
        uint8 [..., 3, D, H, W], 0 or 1: ET, WT, TC.
    """
    regions = (labels == 4, labels >= 1, (labels == 1) | (labels == 4))
    return torch.stack(regions, dim=-4).to(torch.uint8)


def regions_to_labels(probabilities: Tensor) -> Tensor:
    """Label map of predicted regions, each being where its probability is above 0.5.

    TC overwrites WT and ET overwrites both; that the regions be nested is not enforced, so that TC outside WT is 1.

    Args:
        probabilities: float [..., 3, D, H, W]: ET, WT, TC.

    Returns:
        uint8 [..., D, H, W], values 0, 1, 2, 4.
    """
    enhancing, whole, core = (probabilities > 0.5).unbind(-4)
    labels = whole.to(torch.uint8) * 2
    return labels.masked_fill(core, 1).masked_fill(enhancing, 4)
