"""Multi-resolution STFT distance of A-weighted waveforms (Yamamoto et al. 2020; Steinmetz & Reiss, auraloss, 2020)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.core.extras import require
from zoo.networks.stft import STFT

SIZES = (2048, 1024, 512, 256, 128, 64, 32)
HOPS = (512, 256, 128, 64, 32, 16, 8)

FLOOR = 1e-8  # of squared magnitudes


def a_weighting(sample_rate: int, taps: int = 101) -> Tensor:
    """A filter that weighs frequencies as the ear does (IEC 61672's A curve), fitted by least squares, float [taps].

    The analogue curve goes through the bilinear transform first, which bends it near half the rate.
    """
    signal = require("scipy.signal", "audio")
    poles = 2 * math.pi * np.array([20.598997, 20.598997, 107.65265, 737.86223, 12194.217, 12194.217])
    gain = poles[-1] ** 2 * 10 ** (1.9997 / 20)
    numerator, denominator = signal.bilinear([gain, 0, 0, 0, 0], np.poly(-poles), fs=sample_rate)
    frequency, response = signal.freqz(numerator, denominator, worN=512, fs=sample_rate)
    return torch.from_numpy(signal.firls(taps, frequency, np.abs(response), fs=sample_rate)).float()


class MultiResolutionSTFT(nn.Module):
    """Spectral convergence plus difference of logarithmic magnitudes, mean over resolutions.

    Convergence is the Frobenius norm of the difference over the target's, of each channel by itself, as in the copy of
    auraloss that CCStereo's configuration builds; auraloss from PyPI takes one norm over the whole batch.

    Args:
        sample_rate: in Hz.
        fft_sizes, hop_sizes, win_lengths: samples, of the resolutions. `None`: windows are as long as transforms.
        perceptual_weighting: whether waveforms are A-weighted first.
    """

    def __init__(
        self,
        sample_rate: int = 16_000,
        fft_sizes: Sequence[int] = SIZES,
        hop_sizes: Sequence[int] = HOPS,
        win_lengths: Sequence[int] | None = None,
        perceptual_weighting: bool = True,
    ) -> None:
        super().__init__()
        resolutions = zip(fft_sizes, hop_sizes, win_lengths or fft_sizes, strict=True)
        self.transforms = nn.ModuleList(STFT(*resolution, pad_mode="reflect") for resolution in resolutions)
        taps = a_weighting(sample_rate) if perceptual_weighting else torch.ones(1)
        self.register_buffer("taps", taps[None, None], persistent=False)

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Float [B, C, T] each, T more than half the longest transform, to float [B]."""
        pair = torch.stack([prediction, target]).float()
        weighted = F.conv1d(pair.flatten(0, -2)[:, None], self.taps, padding=self.taps.shape[-1] // 2)
        pair = weighted.view(*pair.shape)
        return torch.stack([self._distance(transform, pair) for transform in self.transforms]).mean(0)

    def _distance(self, transform: STFT, pair: Tensor) -> Tensor:
        squares = transform(pair).square().sum(-3)
        prediction, target = squares.clamp_min(FLOOR).sqrt()
        error = (target - prediction).norm(dim=(-2, -1)) / target.norm(dim=(-2, -1))
        logarithms = (prediction.log() - target.log()).abs().mean((-2, -1))
        return (error + logarithms).mean(-1)
