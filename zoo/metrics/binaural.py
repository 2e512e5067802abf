"""Distances between predicted and true two-ear sound, as CCStereo's released evaluation defines them.

Functions take predictions and targets, float [B, 2, T] at 16 kHz, and give one value per clip, float [B]. Classes are
means over clips. Clips have more than 1,024 samples, and those of one call are equally long: envelopes and spectra are
of the whole clip. Sums over the two channels, not means, are the papers' convention.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from zoo.metrics.mrstft import MultiResolutionSTFT
from zoo.networks.stft import STFT


def to_full_scale(stereo: Tensor) -> Tensor:
    """Divide clips by their own largest magnitude over both channels; silence stays silent."""
    return stereo / stereo.abs().amax((-2, -1), keepdim=True).clamp_min(1e-20)


def stft_distance(prediction: Tensor, target: Tensor, transform: STFT) -> Tensor:
    """STFT: squared difference of spectra, mean over real and imaginary parts, frequencies and frames."""
    return transform(prediction - target).square().mean((-3, -2, -1)).sum(-1)


def magnitude_distance(prediction: Tensor, target: Tensor, transform: STFT) -> Tensor:
    """Mag (PseudoBinaural): squared modulus of the difference of spectra, mean over bins: twice the STFT distance."""
    return 2 * stft_distance(prediction, target, transform)


def envelope(waveform: Tensor) -> Tensor:
    """Modulus of the analytic signal of the whole waveform, float [..., T] (Hilbert transform, no padding)."""
    length = waveform.shape[-1]
    gain = waveform.new_zeros(length)
    gain[0] = 1
    gain[1 : (length + 1) // 2] = 2
    if length % 2 == 0:
        gain[length // 2] = 1
    return torch.fft.ifft(torch.fft.fft(waveform) * gain).abs()


def envelope_distance(prediction: Tensor, target: Tensor) -> Tensor:
    """ENV: root mean square difference of envelopes."""
    return (envelope(prediction) - envelope(target)).square().mean(-1).sqrt().sum(-1)


def squared_error(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference of waveforms."""
    return (prediction - target).square().mean(-1).sum(-1)


def waveform_distance(prediction: Tensor, target: Tensor) -> Tensor:
    """WAV: 1,000 times the mean squared difference of waveforms."""
    return 1000 * squared_error(prediction, target)


def amplitude_distance(prediction: Tensor, target: Tensor, transform: STFT) -> Tensor:
    """Difference of magnitudes of spectra, mean over bins. Published with a reflecting transform."""
    magnitudes = [transform.complex(stereo).abs().clamp_min(1e-6) for stereo in (prediction, target)]
    return (magnitudes[0] - magnitudes[1]).abs().mean((-2, -1)).sum(-1)


def angle_between(first: Tensor, second: Tensor) -> Tensor:
    """Angle from 0 to pi between complex numbers; that of zero is 0."""
    angles = [torch.where(spectrum == 0, 0.0, spectrum.angle()) for spectrum in (first, second)]
    return math.pi - ((angles[0] - angles[1]).abs() - math.pi).abs()


def phase_distance(prediction: Tensor, target: Tensor, transform: STFT, ignore_below: float = 0.2) -> Tensor:
    """Phase: difference of phases, mean over the bins that are loud in both. Published with a reflecting transform.

    Loud is what has |real| + |imaginary| above `ignore_below` times its mean over the target's channel. A channel
    without such bins, as digital silence, counts 0.
    """
    spectra = [transform.complex(stereo) for stereo in (prediction, target)]
    sizes = [spectrum.real.abs() + spectrum.imag.abs() for spectrum in spectra]
    threshold = ignore_below * sizes[1].mean((-2, -1), keepdim=True)
    loud = ((sizes[0] > threshold) & (sizes[1] > threshold)).float()
    return ((angle_between(*spectra) * loud).sum((-2, -1)) / loud.sum((-2, -1)).clamp_min(1)).sum(-1)


def difference_phase_distance(prediction: Tensor, target: Tensor, transform: STFT) -> Tensor:
    """D_phase (PseudoBinaural): difference of the phases of left - right, mean over all bins, in radians."""
    return angle_between(*(transform.complex(stereo[:, 0] - stereo[:, 1]) for stereo in (prediction, target))).mean(
        (-2, -1)
    )


def signal_to_noise(prediction: Tensor, target: Tensor) -> Tensor:
    """SNR in dB: energy of the target over that of the error, 1e-4 added to either, means over time and channels."""
    signal, noise = target.square().mean((-2, -1)), (prediction - target).square().mean((-2, -1))
    return 10 * ((signal + 1e-4) / (noise + 1e-4)).log10()


class ClipMean(Metric):
    """Mean over clips of a distance that :meth:`measure` gives; a subclass is one published column.

    Args:
        full_scale: whether clips are first divided by their own largest magnitude, as in CCStereo's evaluation and
            Mono2Binaural's with `--normalization`. All columns but the phases depend on it.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    total: Tensor
    clips: Tensor

    def __init__(self, full_scale: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.full_scale = full_scale
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("clips", torch.tensor(0), dist_reduce_fx="sum")

    def measure(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Float [B] from two float [B, 2, T]."""
        raise NotImplementedError

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add clips: float [B, 2, T], predicted and true."""
        with torch.autocast(prediction.device.type, enabled=False):
            prediction, target = prediction.float(), target.float()
            if self.full_scale:
                prediction, target = to_full_scale(prediction), to_full_scale(target)
            self.total += self.measure(prediction, target).sum()
        self.clips += len(prediction)

    def compute(self) -> Tensor:
        return self.total / self.clips


class SpectralMean(ClipMean):
    """Base of those of spectra. `pad_mode`: what lies around the clips in the published evaluation."""

    pad_mode: ClassVar[str] = "constant"

    def __init__(self, full_scale: bool = True, **kwargs: Any) -> None:
        super().__init__(full_scale, **kwargs)
        self.transform = STFT(pad_mode=self.pad_mode)


class STFTDistance(SpectralMean):
    """Mean over clips of :func:`stft_distance`."""

    def measure(self, prediction: Tensor, target: Tensor) -> Tensor:
        return stft_distance(prediction, target, self.transform)


class MagnitudeDistance(SpectralMean):
    """Mean over clips of :func:`magnitude_distance`."""

    def measure(self, prediction: Tensor, target: Tensor) -> Tensor:
        return magnitude_distance(prediction, target, self.transform)


class DifferencePhaseDistance(SpectralMean):
    """Mean over clips of :func:`difference_phase_distance`."""

    def measure(self, prediction: Tensor, target: Tensor) -> Tensor:
        return difference_phase_distance(prediction, target, self.transform)


class AmplitudeDistance(SpectralMean):
    """Mean over clips of :func:`amplitude_distance`."""

    pad_mode = "reflect"

    def measure(self, prediction: Tensor, target: Tensor) -> Tensor:
        return amplitude_distance(prediction, target, self.transform)


class PhaseDistance(SpectralMean):
    """Mean over clips of :func:`phase_distance`."""

    pad_mode = "reflect"

    def measure(self, prediction: Tensor, target: Tensor) -> Tensor:
        return phase_distance(prediction, target, self.transform)


class EnvelopeDistance(ClipMean):
    """Mean over clips of :func:`envelope_distance`."""

    def measure(self, prediction: Tensor, target: Tensor) -> Tensor:
        return envelope_distance(prediction, target)


class WaveformDistance(ClipMean):
    """Mean over clips of :func:`waveform_distance`."""

    def measure(self, prediction: Tensor, target: Tensor) -> Tensor:
        return waveform_distance(prediction, target)


class SignalToNoise(ClipMean):
    """Mean over clips of :func:`signal_to_noise`."""

    higher_is_better = True

    def measure(self, prediction: Tensor, target: Tensor) -> Tensor:
        return signal_to_noise(prediction, target)


class MultiResolutionSTFTDistance(ClipMean):
    """Mean over clips of :class:`~zoo.metrics.mrstft.MultiResolutionSTFT`."""

    def __init__(self, full_scale: bool = True, **kwargs: Any) -> None:
        super().__init__(full_scale, **kwargs)
        self.distance = MultiResolutionSTFT()

    def measure(self, prediction: Tensor, target: Tensor) -> Tensor:
        return self.distance(prediction, target)


COLUMNS: dict[str, type[ClipMean]] = {
    "stft_distance": STFTDistance,
    "envelope_distance": EnvelopeDistance,
    "waveform_distance": WaveformDistance,
    "magnitude_distance": MagnitudeDistance,
    "amplitude_distance": AmplitudeDistance,
    "phase_distance": PhaseDistance,
    "difference_phase_distance": DifferencePhaseDistance,
    "snr": SignalToNoise,
    "mrstft": MultiResolutionSTFTDistance,
}


def binaural_metrics(stage: str, full_scale: bool = True) -> MetricCollection:
    """All columns, for `self.log_dict`: `<stage>/stft_distance`, ….

    Args:
        stage: "val" or "test".
        full_scale: see :class:`ClipMean`.
    """
    # No compute groups: they join metrics whose states are equal after the first batch, as they are of silence.
    metrics = {name: column(full_scale) for name, column in COLUMNS.items()}
    return MetricCollection(metrics, prefix=f"{stage}/", compute_groups=False)
