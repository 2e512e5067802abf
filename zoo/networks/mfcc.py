"""Mel-frequency cepstral coefficients on the device, equal to librosa's."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.core.extras import require


class MFCC(nn.Module):
    """Waveforms to a picture of MFCCs over time, as SMIL computes them for AV-MNIST.

    Every third sample is kept without a low-pass filter, and the result is treated as if it still had the original
    rate: so do the published numbers. The rest are librosa's defaults: Hann window, centred frames with zeros outside
    the clip, 128 Slaney mel bands up to half the rate, decibels floored at 80 below the clip's own loudest band,
    orthonormal DCT-II. Each clip's coefficients are librosa's on that clip alone, to 1e-4, whatever it is padded with.

    Its buffers follow from its arguments, so checkpoints leave them out.

    Args:
        decimation: keep every n-th sample.
        sample_rate: in Hz, assumed after decimation.
        n_mfcc: coefficients per frame.
        frames: width of the picture. Shorter clips are filled with zeros on the right; of longer ones (with the
            defaults, over 30,717 samples) only the first frames are seen, the floor included.
    """

    n_fft = 2048
    hop_length = 512
    n_mels = 128
    amin = 1e-10
    top_db = 80.0

    def __init__(self, decimation: int = 3, sample_rate: int = 8000, n_mfcc: int = 20, frames: int = 20) -> None:
        super().__init__()
        self.decimation, self.frames = decimation, frames
        # torchaudio builds filters and cosines in float32, and either alone costs more than the 1e-4.
        filters = require("librosa", "audio").filters.mel(sr=sample_rate, n_fft=self.n_fft, n_mels=self.n_mels)
        angle = torch.outer(torch.arange(self.n_mels) + 0.5, torch.arange(n_mfcc, dtype=torch.float64))
        dct = (angle * (math.pi / self.n_mels)).cos() * math.sqrt(2 / self.n_mels)
        dct[:, 0] /= math.sqrt(2)
        self.register_buffer("window", torch.hann_window(self.n_fft, dtype=torch.float64).float(), persistent=False)
        self.register_buffer("filters", torch.from_numpy(filters.T.copy()), persistent=False)
        self.register_buffer("dct", dct.float(), persistent=False)

    def forward(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """Compute the coefficients; never in less than float32, under autocast too.

        Args:
            waveform: float [B, T]; what lies beyond `lengths` is not read.
            lengths: int64 [B], samples of each clip, at most T.

        Returns:
            float32 [B, 1, n_mfcc, frames].
        """
        with torch.autocast(waveform.device.type, enabled=False):
            return self._coefficients(waveform[:, :: self.decimation].float(), -(-lengths // self.decimation))

    def _coefficients(self, signal: Tensor, lengths: Tensor) -> Tensor:
        sample = torch.arange(signal.shape[1], device=signal.device)
        signal = torch.where(sample < lengths[:, None], signal, 0.0)
        count = min(self.frames, 1 + signal.shape[1] // self.hop_length)
        half = self.n_fft // 2
        seen = (count - 1) * self.hop_length + half
        signal = F.pad(signal, (half, seen - signal.shape[1]))  # crops a signal that goes on beyond the last frame
        power = torch.fft.rfft(signal.unfold(-1, self.n_fft, self.hop_length) * self.window).abs().square()

        # The first coefficient is a sum near 1,000, which float32 (or TF32, where that is on) does not give to 1e-4;
        # Apple's GPUs have no float64 and lose 3e-4.
        exact = torch.float32 if signal.device.type == "mps" else torch.float64
        decibels = 10 * (power.to(exact) @ self.filters.to(exact)).clamp_min(self.amin).log10()
        own = (torch.arange(count, device=signal.device) <= lengths[:, None] // self.hop_length)[..., None]
        loudest = torch.where(own, decibels, -torch.inf).amax((1, 2), keepdim=True)
        coefficients = torch.maximum(decibels, loudest - self.top_db) @ self.dct.to(exact)
        coefficients = torch.where(own, coefficients, 0.0).float().mT
        return F.pad(coefficients, (0, self.frames - count))[:, None]
