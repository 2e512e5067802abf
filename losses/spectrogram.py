"""Losses of kind `spectrogram`: (predicted [..., 2, F, N], target [..., 2, F, N]), real and imaginary parts.

All compute in float32, under autocast too: angles and energies of half precision are of no use.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from losses.registry import register
from zoo.core.distributed import mean_over_ranks


@register("spectrogram_mse", kind="spectrogram")
def spectrogram_mse(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference of real and imaginary parts (Mono2Binaural's only loss, CCStereo's first)."""
    return F.mse_loss(predicted.float(), target.float())


@register("spectrogram_envelope", kind="spectrogram")
def spectrogram_envelope(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of each frequency's energy over time, real and imaginary part each for itself.

    CCStereo's amplitude term as released: the root of the sum of squares runs over frames, not over real and imaginary
    part, which would be a magnitude. Its slope is 0 where a frequency is silent.
    """
    found, wanted = (torch.linalg.vector_norm(x.float(), dim=-1) for x in (predicted, target))
    return F.l1_loss(found, wanted)


@register("spectrogram_phase", kind="spectrogram")
def spectrogram_phase(predicted: Tensor, target: Tensor, *, ignore_below: float = 0.2) -> Tensor:
    """Mean absolute difference of angles, in radians, where both spectrograms are loud (CCStereo's phase term).

    A bin is loud if |re| + |im| is above a threshold, which follows from the prediction's mean over all bins of all
    samples (and of all ranks). Which bins are loud carries no gradient. If none is, as in silence, the loss is 0.

    Args:
        predicted: float [..., 2, F, N].
        target: same shape.
        ignore_below: share of the mean below which a bin is too quiet to have an angle. At least 0.
    """
    a, b = predicted.float().unbind(-3)
    c, d = target.float().unbind(-3)
    with torch.no_grad():
        size, wanted_size = a.abs() + b.abs(), c.abs() + d.abs()
        threshold = ignore_below * mean_over_ranks(size.sum(), size.new_tensor(size.numel()))
        loud = (size > threshold) & (wanted_size > threshold)
    # The angle of one times the conjugate of the other; quiet bins get a number whose angle has a slope.
    angle = torch.atan2(torch.where(loud, b * c - a * d, 0.0), torch.where(loud, a * c + b * d, 1.0)).abs()
    return mean_over_ranks(angle.sum(), loud.sum())
