"""What runs in every step beside its naive form: equal results, and how many times faster.

    python benchmarks/hot_paths.py [--small] [NAME …]

Times are medians on this machine; only their ratio means anything elsewhere. A pair is added by a function that makes
its inputs: see :func:`class_queue_push`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from losses.spectrogram import spectrogram_phase as phase_loss
from zoo.core.extras import require
from zoo.methods.ccstereo.module import CCStereo
from zoo.networks.mfcc import MFCC
from zoo.state import ClassQueue, GaussianMixture


@dataclass(frozen=True)
class Pair:
    """One piece of this project and the same in the form in which one would first write it.

    Attributes:
        ours, naive: functions of what `fresh` makes, which they may change.
        fresh: makes their argument; not timed.
        atol, rtol: how far results may differ, by rounding alone.
    """

    ours: Callable[[Any], Tensor]
    naive: Callable[[Any], Tensor]
    fresh: Callable[[], Any] = lambda: None
    atol: float = 0.0
    rtol: float = 0.0


@dataclass(frozen=True)
class Result:
    name: str
    ours: float  # seconds
    naive: float

    @property
    def ratio(self) -> float:
        """How many times faster than the naive form."""
        return self.naive / self.ours


PAIRS: dict[str, Callable[[bool], Pair]] = {}
"""By name: a function of whether inputs are small."""


def pair(make: Callable[[bool], Pair]) -> Callable[[bool], Pair]:
    PAIRS[make.__name__] = make
    return make


@pair
def class_queue_push(small: bool) -> Pair:
    """Rows of many classes into the rings of their classes; naive: one by one."""
    classes, size, dim, rows = (20, 8, 16, 256) if small else (200, 32, 64, 4096)
    features, labels = torch.randn(rows, dim), torch.randint(classes, (rows,))

    def ours(queue: ClassQueue) -> Tensor:
        queue.push(features, labels)
        return queue.features

    def naive(queue: ClassQueue) -> Tensor:
        for feature, label in zip(features, labels.tolist(), strict=True):
            slot = int(queue.pointer[label])
            queue.features[label, slot] = feature
            queue.pointer[label] = (slot + 1) % size
            queue.count[label] = min(int(queue.count[label]) + 1, size)
        return queue.features

    return Pair(ours, naive, lambda: ClassQueue(classes, size, dim))


@pair
def gaussian_mixture_log_density(small: bool) -> Pair:
    """Points under all components of all classes; naive: a component at a time."""
    classes, components, dim, points = (20, 3, 16, 256) if small else (200, 10, 64, 2048)
    mixture = GaussianMixture(classes, components, dim)
    mixture.means.normal_()
    mixture.variances.uniform_(0.5, 2.0)
    x = torch.randn(points, dim)

    def naive(_: None) -> Tensor:
        found = torch.empty(points, classes, components)
        for c in range(classes):
            for k in range(components):
                normal = torch.distributions.Normal(mixture.means[c, k], mixture.variances[c, k].sqrt())
                found[:, c, k] = normal.log_prob(x).sum(-1)
        return found

    return Pair(lambda _: mixture.log_density(x), naive, atol=1e-3, rtol=1e-5)


@pair
def mfcc(small: bool) -> Pair:
    """Waveforms to MFCCs; naive: librosa on a clip at a time."""
    librosa = require("librosa", "audio")
    clips, longest = (4, 12_000) if small else (64, 24_000)
    lengths = torch.randint(longest // 2, longest, (clips,))
    lengths[0] = longest
    waves = torch.randn(clips, longest) * 0.1
    front_end = MFCC()

    def naive(_: None) -> Tensor:
        found = torch.zeros(clips, 1, 20, 20)
        for row, (wave, length) in enumerate(zip(waves.double().numpy(), lengths.tolist(), strict=True)):
            picture = torch.from_numpy(librosa.feature.mfcc(y=wave[:length:3], sr=8000, n_mfcc=20))[:, :20]
            found[row, 0, :, : picture.shape[1]] = picture
        return found

    return Pair(lambda _: front_end(waves, lengths), naive, atol=1e-3)


@pair
def binaural_clip(small: bool) -> Pair:
    """A clip's windows through CCStereo, each frame seen once; naive: a window and its frame at a time."""
    frames, width, size = (6, 2, (32, 64)) if small else (10, 16, (224, 448))
    model = CCStereo("test_resnet" if small else "resnet18", width=width, frame_size=size).eval()
    starts = torch.arange(0, frames * 1600, 1008)
    batch = {
        "modalities": {"audio": 0.1 * torch.randn(1, frames * 1600 + 9072), "video": torch.rand(1, frames, 3, *size)},
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
            normalizer = window.square().mean().sqrt().clamp_min(1e-4) / 0.1
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


def compare(name: str, small: bool, seconds: float = 1.0) -> Result:
    """Check that both forms agree, then time them in turns.

    Raises:
        AssertionError: if they do not.
    """
    torch.manual_seed(0)
    made = PAIRS[name](small)
    torch.testing.assert_close(made.ours(made.fresh()), made.naive(made.fresh()), atol=made.atol, rtol=made.rtol)
    times: tuple[list[float], list[float]] = ([], [])
    began = time.perf_counter()
    while len(times[0]) < 3 or time.perf_counter() - began < seconds:
        for form, spent in zip((made.ours, made.naive), times, strict=True):
            argument = made.fresh()
            start = time.perf_counter()
            form(argument)
            spent.append(time.perf_counter() - start)
    return Result(name, *map(statistics.median, times))


def main(args: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PAIRS)}; default: all")
    parser.add_argument("--small", action="store_true", help="the sizes that the tests use")
    asked = parser.parse_args(args)
    if stray := set(asked.names) - set(PAIRS):
        parser.error(f"no such pair: {', '.join(sorted(stray))}; there are {', '.join(PAIRS)}")
    print(f"{'':30}{'ours, ms':>12}{'naive, ms':>12}{'ratio':>8}")
    for name in asked.names or PAIRS:
        result = compare(name, asked.small)
        print(f"{name:30}{1000 * result.ours:12.2f}{1000 * result.naive:12.2f}{result.ratio:8.1f}", flush=True)


if __name__ == "__main__":
    main()
