"""What runs in every step beside its naive form: equal results, and how many times faster.

    python benchmarks/hot_paths.py [--small] [NAME …]

Times are medians on this machine; only their ratio means anything elsewhere. A pair is added by a function that makes
its inputs: see :func:`class_queue_push`.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.label_noise import instance_noise, symmetric_noise
from zoo.core.extras import require
from zoo.methods.gnl.prior import coverage, draw_uncertainty
from zoo.methods.shaspec.volume_module import ShaSpec
from zoo.methods.shaspec.volume_network import ShaSpecVolumeNet
from zoo.metrics.subsets import all_subsets
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
def instance_dependent_noise(small: bool) -> Pair:
    """Wrong labels that images suggest; naive: an image at a time."""
    samples, side, classes = (300, 8, 10) if small else (5000, 32, 10)
    images = torch.randint(256, (samples, side, side, 3), dtype=torch.uint8)
    labels = torch.randint(classes, (samples,))

    def ours(rng: np.random.RandomState) -> Tensor:
        return instance_noise(images, labels, classes, 0.4, rng).labels

    def naive(rng: np.random.RandomState) -> Tensor:
        uniform = torch.from_numpy(rng.random_sample(samples))
        low, high = torch.special.ndtr(torch.tensor([-4.0, 6.0], dtype=torch.float64))
        flip_rates = 0.4 + 0.1 * torch.special.ndtri(low + uniform * (high - low))
        projections = torch.from_numpy(rng.standard_normal((classes, images[0].numel(), classes))).float()
        noisy = torch.empty_like(labels)
        for i, label in enumerate(labels.tolist()):
            scores = images[i].flatten().float() @ projections[label]
            scores[label] = -torch.inf
            probabilities = scores.softmax(0).double() * flip_rates[i]
            probabilities[label] += 1 - flip_rates[i]
            noisy[i] = int(rng.choice(classes, p=probabilities.numpy() / probabilities.sum().item()))
        return noisy

    return Pair(ours, naive, lambda: np.random.RandomState(0))


@pair
def symmetric_label_noise(small: bool) -> Pair:
    """Labels drawn anew for half of the samples; naive: each sample is looked for in the list of these."""
    samples, classes = (500, 10) if small else (10_000, 10)
    labels = torch.randint(classes, (samples,))

    def naive(rng: random.Random) -> Tensor:
        order = list(range(samples))
        rng.shuffle(order)
        chosen = order[: samples // 2]
        return torch.tensor([rng.randint(0, classes - 1) if i in chosen else int(labels[i]) for i in range(samples)])

    return Pair(lambda rng: symmetric_noise(labels, classes, 0.5, rng), naive, lambda: random.Random(0))


@pair
def uncertainty_labels(small: bool) -> Pair:
    """Random candidate classes beside the covered ones (GNL); naive: a sample at a time."""
    samples, classes = (32, 10) if small else (128, 100)
    covered = coverage(classes, torch.randint(classes, (samples,)), torch.randint(classes, (samples,)))
    count = torch.randint(classes - 2, (samples,))
    keys = torch.rand(samples, classes)

    def naive(_: None) -> Tensor:
        drawn = torch.zeros(samples, classes, dtype=torch.bool)
        for row in range(samples):
            free = (~covered[row]).nonzero().squeeze(1)
            order = keys[row, free].argsort()
            drawn[row, free[order[: int(count[row])]]] = True
        return drawn

    return Pair(lambda _: draw_uncertainty(covered, count, keys), naive)


def naive_shaspec(network: ShaSpecVolumeNet, images: Tensor, available: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """ShaSpec as published: every encoder takes every volume, zeros or not. Logits [B, R, …], shared features
    [B, M, C, …] and domain logits [B, M, M] of one availability list.

    Args:
        network: any width.
        images: [B, M, D, H, W].
        available: in the order that fills missing modalities.
    """
    samples, count = images.shape[:2]
    there = torch.tensor([m in available for m in range(count)], device=images.device)
    images = torch.where(there[:, None, None, None], images, 0.0)
    shared, skips = network.shared_encoder(images.flatten(0, 1)[:, None])
    shared = shared.unflatten(0, (samples, count))
    filled, pooled = [], []
    for m, encoder in enumerate(network.specific_encoders):
        reduced, _ = encoder.reduce(images[:, m : m + 1])
        specific = encoder.aspp(reduced)
        pooled.append(reduced.mean((2, 3, 4)))
        filled.append(network.fuse(shared[:, m], specific) if m in available else shared[:, available[0]])
    skips = [skip.unflatten(0, (samples, count)).flatten(1, 2) for skip in skips]
    logits = network.decoder(torch.cat(filled, 1), skips)
    return logits, shared, network.domain(torch.stack(pooled, 1))


AVAILABLE = ([2], [3, 0], [1, 0, 2], [0, 1, 2, 3])  # 4, 6, 4 and 1 of the 15 sets are as large


def _volumes(small: bool) -> tuple[ShaSpec, Tensor, Tensor]:
    """float64, in which both forms agree closely: features of zero volumes are noisy in float32."""
    window = (32, 64, 64)
    model = ShaSpec(width=2 if small else 16, window=window).double()
    return model, torch.randn(2, 4, *window).double(), torch.randint(2, (2, 3, *window))


@pair
def shaspec_training_step(small: bool) -> Pair:
    """Loss and gradient of ShaSpec, sets of each size; naive: all volumes through all encoders, zeros or not."""
    model, images, mask = _volumes(small)
    domains = torch.arange(4).repeat(2)

    def result(losses: list[Tensor]) -> Tensor:
        model.zero_grad()
        sum(losses).backward()
        norms = [p.grad.norm() for p in model.network.shared_encoder.parameters()]
        return torch.stack([*map(Tensor.detach, losses), *norms])

    def ours(_: None) -> Tensor:
        return torch.cat([result([*model.terms(images, mask, [there] * 2).values()]) for there in AVAILABLE])

    def naive(_: None) -> Tensor:
        found = []
        for there in AVAILABLE:
            logits, shared, domain = naive_shaspec(model.network, images, there)
            task, align = model.losses.task(logits, mask), model.losses.align(shared.transpose(0, 1))
            found.append(result([task, align, model.losses.domain(domain.flatten(0, 1), domains)]))
        return torch.cat(found)

    return Pair(ours, naive, atol=1e-6, rtol=1e-5)


@pair
def shaspec_all_subsets(small: bool) -> Pair:
    """Logits with all 15 sets of modalities from volumes encoded once; naive: a forward pass for each set."""
    model, images, _ = _volumes(small)
    lists = [[model.modalities.index(name) for name in subset] for subset in all_subsets(model.modalities)]

    @torch.no_grad()
    def ours(_: None) -> Tensor:
        zero = model.network.encode_zero(model.window, images)
        encodings = model.network.encode(images, [range(4)] * 2, zero)
        return torch.stack([model.network.decode(encodings, [there] * 2) for there in lists])

    @torch.no_grad()
    def naive(_: None) -> Tensor:
        return torch.stack([naive_shaspec(model.network, images, there)[0] for there in lists])

    return Pair(ours, naive, atol=1e-6)


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
