"""Sound for two ears."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.hot_paths.frame import Pair, pair
from losses.spectrogram import spectrogram_phase as phase_loss
from zoo.methods.ccstereo.module import CCStereo


@pair
def binaural_clip(small: bool) -> Pair:
    """A clip's windows through CCStereo, each frame seen once; naive: a window and its frame at a time."""
    frames, width, size = (6, 2, (32, 64)) if small else (10, 16, (224, 448))
    model = CCStereo("test_resnet" if small else "resnet18", width=width, frame_size=size).eval()
    starts = torch.arange(0, frames * 1600, 1008)
    batch = {
        "modalities": {"audio": 0.1 * torch.randn(1, frames * 1600 + 9072), "video": torch.rand(1, frames, 3, *size)},
        "sample_rate": {"audio": 16_000},
        "present": {"audio": torch.ones(1, dtype=torch.bool), "video": torch.ones(1, dtype=torch.bool)},
        "window_start": starts[None],
        "window_frame": (starts // 1600)[None],
    }

    def naive(_: None) -> Tensor:
        audio, pictures = batch["modalities"]["audio"][0], model.frames(batch)[0]
        total, times = torch.zeros(2, len(audio) + model.window), torch.zeros(len(audio) + model.window)
        for start, place in zip(starts.tolist(), batch["window_frame"][0].tolist(), strict=True):
            window = torch.zeros(model.window)
            part = audio[start : start + model.window]
            window[: len(part)] = part
            normalizer = (window / 2).square().mean().sqrt().clamp_min(1e-4) / 0.1
            mono = window / normalizer
            difference = model.hear(mono[None], model.see(pictures[place][None]))[0]
            total[:, start : start + model.window] += (
                torch.stack([mono + difference, mono - difference]) / 2 * normalizer
            )
            times[start : start + model.window] += 1
        return (total / times.clamp_min(1))[None, :, : len(audio)]

    return Pair(torch.no_grad()(lambda _: model(batch)), torch.no_grad()(naive), atol=1e-5, rtol=1e-4)


@pair
def spectrogram_phase(small: bool) -> Pair:
    """Turn of loud bins, value and gradient; naive: select them, two angles each."""
    shape = (2, 2, 65, 16) if small else (32, 2, 257, 64)
    target = torch.randn(shape)

    def naive(predicted: Tensor) -> Tensor:
        sizes = [x.abs().sum(1) for x in (predicted, target)]
        threshold = 0.2 * sizes[0].detach().mean()
        loud = ((sizes[0] > threshold) & (sizes[1] > threshold)).flatten().nonzero()[:, 0]
        one, other = (torch.atan2(x[:, 1].flatten()[loud], x[:, 0].flatten()[loud]) for x in (predicted, target))
        return torch.autograd.grad((torch.pi - ((one - other).abs() - torch.pi).abs()).mean(), predicted)[0]

    def ours(predicted: Tensor) -> Tensor:
        return torch.autograd.grad(phase_loss(predicted, target), predicted)[0]

    return Pair(ours, naive, lambda: torch.randn(shape, generator=_seeded()).requires_grad_(), atol=1e-6, rtol=1e-3)


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)
