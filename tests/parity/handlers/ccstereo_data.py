"""CCStereo's cases around the network: spectrograms, loudness, frames, windows, the data set, metrics."""

from __future__ import annotations

from typing import Any

import torch

import zoo.networks.binaural as binaural
from tests.parity.harness import Case, handles
from zoo.networks.stft import STFT


def transform(case: Case) -> STFT:
    config = case.config
    return STFT(config["n_fft"], config["hop_length"], config["win_length"], config["pad_mode"])


def statistics(name: str, value: torch.Tensor) -> dict[str, Any]:
    """An output, and its mean and population standard deviation, which the cases compare beside it."""
    value = value.double()
    return {name: value, f"{name}_stats": torch.stack([value.mean(), value.std(correction=0)])}


@handles(
    "ccstereo",
    "stft",
    uses=(
        "zoo.networks.stft.STFT.forward",
        "zoo.networks.stft.STFT.inverse",
        "zoo.networks.binaural.scale_to_rms",
        "zoo.networks.binaural.both_ears",
    ),
)
def stft(case: Case) -> dict[str, Any]:
    mono = case.inputs["mono"] * torch.tensor([0.3, 1e-6, *[0.05] * (len(case.inputs["mono"]) - 2)])[:, None, None]
    normalised, normalizer = binaural.scale_to_rms(mono)
    front_end = transform(case)
    difference = front_end.inverse(case.inputs["diff_spec"], mono.shape[-1])[:, None]
    return {
        "normalizer": normalizer,
        **statistics("normalised", normalised),
        **statistics("spec", front_end(normalised)[:, 0]),
        **statistics("stereo", binaural.both_ears(normalised, difference) * normalizer),
    }
