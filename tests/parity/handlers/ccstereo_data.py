"""CCStereo's cases around the network: spectrograms, loudness, frames, windows, the data set, metrics."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import datamodules.binaural.fairplay as fairplay
import datamodules.binaural.frames as frames
import datamodules.binaural.windows as windows
import zoo.metrics.binaural as metrics
import zoo.metrics.mrstft as mrstft
import zoo.networks.binaural as binaural
from tests.parity.harness import Case, handles
from zoo.core.extras import require
from zoo.networks.normalise import Normalise
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


PUBLISHED = {
    "stft_l2_dist": metrics.STFTDistance,
    "env_dist": metrics.EnvelopeDistance,
    "wav_dist": metrics.WaveformDistance,
    "amp_dist": metrics.AmplitudeDistance,
    "phase_dist": metrics.PhaseDistance,
    "snr": metrics.SignalToNoise,
    "mag_dist": metrics.MagnitudeDistance,
    "ang_diff": metrics.DifferencePhaseDistance,
}


def measured(case: Case, prediction: torch.Tensor, target: torch.Tensor, full_scale: bool = True) -> torch.Tensor:
    """The columns of a metrics case, in its order, of one clip [2, T]."""
    columns = [PUBLISHED[name](full_scale) for name in case.facts["metric_names"]]
    return torch.stack([column(prediction[None], target[None]) for column in columns])


@handles(
    "ccstereo",
    "metrics",
    uses=tuple(
        f"zoo.metrics.binaural.{name}"
        for name in (
            "to_full_scale",
            "stft_distance",
            "envelope",
            "squared_error",
            "amplitude_distance",
            "phase_distance",
            "signal_to_noise",
            "magnitude_distance",
            "difference_phase_distance",
        )
    ),
)
def metrics_of_signals(case: Case) -> dict[str, Any]:
    first, second = case.inputs["gt"]
    target = torch.stack([first, 0.5 * first + 0.5 * second])
    prediction = target + 0.3 * case.inputs["pred_noise"]
    mono = target.mean(0, keepdim=True).expand(2, -1)
    return {
        "metrics_pred": measured(case, prediction, target),
        "metrics_raw_pred": measured(case, prediction, target, full_scale=False),
        "metrics_mono_mono": measured(case, mono, target),
        "metrics_raw_mono_mono": measured(case, mono, target, full_scale=False),
        "wav_distance_np": metrics.squared_error(prediction[None], target[None]),
    }


@handles(
    "ccstereo", "mrstft", uses=("zoo.metrics.mrstft.a_weighting", "zoo.metrics.mrstft.MultiResolutionSTFT.forward")
)
def multi_resolution(case: Case) -> dict[str, Any]:
    config = case.config
    distance = mrstft.MultiResolutionSTFT(
        config["sample_rate"],
        config["fft_sizes"],
        config["hop_sizes"],
        config["win_lengths"],
        config["perceptual_weighting"],
    )
    prediction = (0.1 * case.inputs["x"]).requires_grad_()
    loss = distance(prediction, 0.1 * case.inputs["y"]).mean()
    (gradient,) = torch.autograd.grad(loss, prediction)
    return {"loss": loss[None], "grad_norm": gradient.norm()[None]}


# -- frames and windows ------------------------------------------------------------------------------------------------

DELAY = {"frames": 0.1, "yt_frames": 0.05}  # FAIR-Play's and YT-Clean's
IMAGENET = Normalise("imagenet")


@handles(
    "ccstereo",
    "windows",
    uses=(
        "datamodules.binaural.windows.regular_starts",
        "datamodules.binaural.windows.covered",
        "datamodules.binaural.windows.frames_by_whole_seconds",
        "datamodules.binaural.frames.one_of_five",
    ),
)
def windows_of_clips(case: Case) -> dict[str, Any]:
    window, hop = case.config["samples_per_window"], case.config["hop"]
    size = tuple(reversed(case.config["crop"]))
    found = {}
    for samples in {int(name.rpartition("_")[2]) for name in case.outputs if name.startswith("starts_")}:
        starts = windows.regular_starts(samples, window, hop)
        found[f"starts_{samples}"] = starts
        found[f"n_{samples}"] = [len(starts), windows.covered(starts, window)]
        for name, delay in DELAY.items():
            found[f"{name}_{samples}"] = windows.frames_by_whole_seconds(starts, samples, delay, window)
    looks = [frames.one_of_five(number, size) for number in range(case.outputs["crop_corners"]["shape"][0])]
    return found | {"crop_corners": [(look.left, look.upper) for look in looks]}


class Replay:
    """Gives out recorded draws in the order in which they are asked for."""

    def __init__(self, uniform: Sequence[float], integers: Sequence[int], start: float | None = None) -> None:
        self.shares, self.whole, self.start = list(uniform), list(integers), start

    def uniform(self, low: float, high: float) -> float:
        if self.start is not None:
            start, self.start = self.start, None
            return start
        return low + (high - low) * self.shares.pop(0)

    def integers(self, low: int, high: int, *, endpoint: bool) -> int:
        return self.whole.pop(0)


@handles(
    "ccstereo",
    "preprocess",
    uses=("datamodules.binaural.frames.crop", "zoo.networks.normalise.Normalise.forward"),
)
def preprocess(case: Case) -> dict[str, Any]:
    picture = Image.fromarray(case.inputs["image"].numpy().astype(np.uint8))
    size = (224, 448)
    looks = {f"test_{number}": frames.one_of_five(number, size) for number in range(5)}
    looks["train"] = frames.draw_look(Replay([0.25, 0.9], [13, 7]), size)
    found = {}
    for name, look in looks.items():
        found |= statistics(name, IMAGENET(frames.crop(picture, look, size)))
    return found


@handles(
    "ccstereo",
    "dataset_fairplay",
    uses=(
        "datamodules.binaural.waveforms.StereoFile.read",
        "datamodules.binaural.frames.crop",
        "datamodules.binaural.windows.regular_starts",
        "datamodules.binaural.windows.frames_by_whole_seconds",
        "zoo.networks.binaural.scale_to_rms",
        "zoo.networks.binaural.cut_windows",
        "zoo.networks.normalise.Normalise.forward",
    ),
)
def dataset_fairplay(case: Case) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_clip(root, case)
        data = fairplay.FAIRPlay(root=root, window=case.config["audio_length"])
        draws = case.config["random_values"]
        replay = Replay(draws["u"], draws["left_upper"], case.config["train_start_seconds"])
        train, test = data.source("train").load(0, replay), data.source("test").load(0, None)
    stereo, _ = binaural.scale_to_rms(train["stereo"])
    sides = {"train_mono": stereo[:1] + stereo[1:], "train_diff": stereo[:1] - stereo[1:]}
    of_window = test["window_frame"]
    clips = binaural.cut_windows(test["stereo"][None], test["window_start"][None], train["stereo"].shape[1])[0]
    found = {
        "train_frame_numbers": train["frame_number"].flip(0),
        "test_frame_numbers": test["frame_number"][of_window],
        "test_starts": test["window_start"],
    }
    shown = {
        "train_frames": IMAGENET(train["modalities"]["video"]),
        "test_frames": IMAGENET(test["modalities"]["video"])[of_window],
    }
    for name, value in ({"train_stereo": stereo, "test_clips": clips} | sides | shown).items():
        found |= statistics(name, value)
    return found


def write_clip(root: Path, case: Case) -> None:
    """The case's clip in the published layout."""
    soundfile = require("soundfile", "audio")
    first, second = case.inputs["audio"]
    name = "000007"
    for folder in (root / "five_splits" / "split1", root / "binaural_audios", root / "frames" / f"{name}.mp4"):
        folder.mkdir(parents=True)
    for part in ("train", "val", "test"):
        (root / "five_splits" / "split1" / f"{part}.txt").write_text(f"{name}.mp3\n")
    stereo = 0.1 * torch.stack([first, 0.6 * first + 0.4 * second])
    soundfile.write(root / "binaural_audios" / f"{name}.wav", stereo.T.numpy(), 16_000, "FLOAT")
    for number, pixels in enumerate(case.inputs["frames"].numpy().astype(np.uint8), start=1):
        Image.fromarray(pixels).save(root / "frames" / f"{name}.mp4" / f"{number:06d}.png")
