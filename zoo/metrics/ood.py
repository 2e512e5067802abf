"""Telling images of no known class from the others by a score that is higher for known ones."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

SHARE_KEPT = 0.95  # of the images of known classes


class OutOfDistribution(NamedTuple):
    """Attributes:
    threshold: score that 95 % of the known images exceed (linear interpolation).
    fpr95: share of the unknown images above it.
    auroc: chance that a known image scores higher than an unknown one, ties half.
    """

    threshold: float
    fpr95: float
    auroc: float


def likelihood(log_likelihood: Tensor) -> Tensor:
    """MGProto's score p(x): the sum over classes of p(x|c), from log p(x|c) [N, C], to float64 [N]."""
    return log_likelihood.double().logsumexp(1).exp()


def out_of_distribution(known: Tensor, unknown: Tensor) -> OutOfDistribution:
    """Measures of a score.

    Args:
        known: scores of images of known classes [N].
        unknown: of out-of-distribution images [M].
    """
    known, unknown = known.double(), unknown.double()
    threshold = known.quantile(1 - SHARE_KEPT)
    ascending = known.sort().values
    below = torch.searchsorted(ascending, unknown)
    not_above = torch.searchsorted(ascending, unknown, right=True)
    wins = len(known) - 0.5 * (below + not_above).double()
    return OutOfDistribution(
        float(threshold), float((unknown > threshold).double().mean()), float(wins.mean() / len(known))
    )


def released_fpr95(known: Tensor, unknown: Tensor, num_classes: int) -> float:
    """FPR95 as MGProto's code computes it: the sum over classes of known images sets the threshold, the mean over
    classes of the others is compared with it. So it is far too low; for comparison with numbers made by that code.
    """
    return out_of_distribution(known, unknown / num_classes).fpr95
