"""Around the networks of binaural methods: loudness of windows, ears from their difference, overlap and add."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

RMS = 0.1  # that every window is scaled to (2.5D Visual Sound)
LEAST_RMS = 1e-4  # of a window; quieter ones are raised as if they had it


def scale_to_rms(waveform: Tensor) -> tuple[Tensor, Tensor]:
    """Scale sounds to a root mean square of 0.1 over all their channels together.

    Published code scales stereo training segments by both channels, so that their sum has up to twice that, but mono
    test windows by themselves.

    Args:
        waveform: float [..., C, T].

    Returns:
        The scaled sounds, and what to multiply by to undo it, [..., 1, 1].
    """
    waveform = waveform.float()
    normalizer = waveform.square().mean((-2, -1), keepdim=True).sqrt().clamp_min(LEAST_RMS) / RMS
    return waveform / normalizer, normalizer


def both_ears(mono: Tensor, difference: Tensor) -> Tensor:
    """Left and right, [..., 2, T], from their sum and their difference (left - right), both [..., 1, T]."""
    return torch.cat([mono + difference, mono - difference], dim=-2) / 2


def cut_windows(waveform: Tensor, starts: Tensor, length: int) -> Tensor:
    """Windows of waveforms, with zeros where one reaches beyond the end.

    Args:
        waveform: float [B, C, T].
        starts: int64 [B, N], first sample of each window, in [0, T].
        length: samples per window, L.

    Returns:
        float [B, N, C, L].
    """
    padded = F.pad(waveform, (0, length))
    places = starts[:, :, None] + torch.arange(length, device=starts.device)
    chosen = padded[torch.arange(len(padded), device=starts.device)[:, None, None], :, places]  # [B, N, L, C]
    return chosen.movedim(-1, 2)


def overlap_add(windows: Tensor, starts: Tensor, length: int) -> Tensor:
    """Mean of overlapping windows at each sample; zeros where there is none.

    Args:
        windows: float [B, N, C, L].
        starts: int64 [B, N], first sample of each, in [0, T].
        length: samples of the result, T; what windows have beyond is left out.

    Returns:
        float [B, C, T].
    """
    batch, count, channels, size = windows.shape
    places = starts[:, :, None] + torch.arange(size, device=starts.device)
    places = places.view(batch, 1, count * size)
    total = windows.new_zeros(batch, channels, length + size)
    total.scatter_add_(-1, places.expand(-1, channels, -1), windows.transpose(1, 2).flatten(2))
    times = windows.new_zeros(batch, 1, length + size).scatter_add_(-1, places, windows.new_ones(places.shape))
    return (total / times.clamp_min(1))[..., :length]
