"""Short-time Fourier transform as binaural papers use it: two real channels for a network, and back."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class STFT(nn.Module):
    """Waveforms to spectrograms of real and imaginary parts, and back; equal to librosa's with a periodic Hann window.

    Frames are centred: the first one lies half before the waveform. The window is `win_length` long in the middle of
    `n_fft` samples. Computed in float32 (float64 if given), under autocast too. The window is no state: it follows
    from the arguments, so checkpoints leave it out. Defaults: Mono2Binaural and CCStereo at 16 kHz (frames of 25 ms
    every 10 ms); 10,080 samples give 257 frequencies and 64 frames.

    Args:
        n_fft: samples per transform.
        hop_length: samples from frame to frame.
        win_length: samples under the window, at most `n_fft`.
        pad_mode: what lies outside the waveform: zeros ("constant"; librosa from 0.10 on) or its mirror image
            ("reflect"; torch, and librosa before 0.10), which needs more than `n_fft / 2` samples.
    """

    window: Tensor

    def __init__(
        self,
        n_fft: int = 512,
        hop_length: int = 160,
        win_length: int = 400,
        pad_mode: Literal["constant", "reflect"] = "constant",
    ) -> None:
        super().__init__()
        self.n_fft, self.hop_length, self.win_length, self.pad_mode = n_fft, hop_length, win_length, pad_mode
        window = torch.hann_window(win_length, dtype=torch.float64).float()
        self.register_buffer("window", window, persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """Float [..., T] to [..., 2, n_fft // 2 + 1, 1 + T // hop_length]: real part, imaginary part."""
        return torch.view_as_real(self.complex(waveform)).movedim(-1, -3)

    def complex(self, waveform: Tensor) -> Tensor:
        """Float [..., T] to complex [..., n_fft // 2 + 1, 1 + T // hop_length]."""
        with torch.autocast(waveform.device.type, enabled=False):
            waveform = _exact(waveform)
            spectrum = torch.stft(
                waveform.reshape(-1, waveform.shape[-1]),
                self.n_fft,
                self.hop_length,
                self.win_length,
                self.window.to(waveform.dtype),
                pad_mode=self.pad_mode,
                return_complex=True,
            )
        return spectrum.reshape(*waveform.shape[:-1], *spectrum.shape[1:])

    def inverse(self, spectrum: Tensor, length: int) -> Tensor:
        """Waveform whose spectrogram is nearest: frames overlap and add, divided by the sum of squared windows.

        The number of rows says how long the transform is, as in librosa: 257 rows are 512 samples, and 256 rows, which
        Mono2Binaural predicts, are 510, so that each row sounds at k/510 of the rate instead of the k/512 at which it
        was analysed.

        Args:
            spectrum: float [..., 2, rows, frames]: real part, imaginary part.
            length: samples, T.

        Returns:
            float [..., T]; zeros where no frame reaches.
        """
        with torch.autocast(spectrum.device.type, enabled=False):
            real, imaginary = _exact(spectrum).unbind(-3)
            n_fft, frames = 2 * (real.shape[-2] - 1), real.shape[-1]
            before = (n_fft - self.win_length) // 2
            window = F.pad(self.window.to(real.dtype), (before, n_fft - self.win_length - before))
            pieces = torch.fft.irfft(torch.complex(real, imaginary), n_fft, dim=-2) * window[:, None]
            # torch.istft gives the same, but asks the device whether the sum of windows has zeros: a synchronisation.
            sums = self._overlap_add(
                torch.cat([pieces.reshape(-1, n_fft, frames), window.square()[:, None].expand(1, -1, frames)])
            )
            signal, weight = sums[:-1], sums[-1]
            signal = signal / torch.where(weight > 1e-11, weight, 1)
            signal = signal[:, n_fft // 2 :][:, :length]
            signal = F.pad(signal, (0, length - signal.shape[1]))
        return signal.reshape(*real.shape[:-2], length)

    def _overlap_add(self, pieces: Tensor) -> Tensor:
        """[N, n_fft, frames] to [N, n_fft + (frames - 1) * hop_length]."""
        total = pieces.shape[1] + (pieces.shape[2] - 1) * self.hop_length
        return F.fold(pieces, (1, total), (1, pieces.shape[1]), stride=(1, self.hop_length)).flatten(1)


def _exact(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
