"""What runs in every step beside its naive form: equal results, and how many times faster.

    python benchmarks/hot_paths.py [--small] [NAME …]

Times are medians on this machine; only their ratio means anything elsewhere. A pair is added by a function that makes
its inputs: see :func:`class_queue_push`.
"""

from __future__ import annotations

import argparse
import copy
import math
import random
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from datamodules.label_noise import instance_noise, symmetric_noise
from zoo.core.extras import require
from zoo.methods.cipl.network import squared_distances
from zoo.methods.mgproto.em import PrototypeEM
from zoo.methods.mgproto.network import mine
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


def _prototype_maps(small: bool) -> tuple[GaussianMixture, Tensor]:
    """MGProto's mixture for CUB, and the unit features of 8 images of 14×14 locations [B·N, D]."""
    classes, components, dim, images, locations = (20, 5, 16, 2, 16) if small else (200, 10, 64, 8, 196)
    mixture = GaussianMixture(classes, components, dim)
    mixture.means.copy_(normalize(torch.rand(classes, components, dim), dim=-1))
    mixture.variances.fill_(1 / (2 * math.pi))
    return mixture, normalize(torch.randn(images * locations, dim), dim=-1).unflatten(0, (images, locations))


@pair
def cross_image_affinity(small: bool) -> Pair:
    """CIPL's affinity of all locations of two images, and its gradient; naive: the published differences."""
    images, dim, locations = (2, 32, 36) if small else (2, 256, 256)
    first, second = torch.rand(images, locations, dim), torch.rand(images, locations, dim)
    upstream = torch.randn(images, locations, locations)

    def gradient(affinity: Tensor, leaves: tuple[Tensor, Tensor]) -> Tensor:
        return torch.stack([*torch.autograd.grad((affinity * upstream).sum(), leaves)])

    def naive(leaves: tuple[Tensor, Tensor]) -> Tensor:
        a, b = (x.mT for x in leaves)
        return gradient(-(a[..., :, None] - b[..., None, :]).square().sum(1), leaves)

    return Pair(
        lambda leaves: gradient(-squared_distances(*leaves), leaves),
        naive,
        lambda: tuple(x.clone().requires_grad_() for x in (first, second)),
        atol=1e-3,
    )


@pair
def prototype_density(small: bool) -> Pair:
    """MGProto's densities of 8 images; naive: the published differences of locations and prototypes, in quarters."""
    mixture, rows = _prototype_maps(small)
    points, sigma = rows.flatten(0, 1), mixture.variances.sqrt()

    def naive(_: None) -> Tensor:
        found = []
        for part in points.chunk(4):
            scaled = (part[:, None, None] - mixture.means) / sigma
            volume = sigma.log().sum(-1) + 0.5 * points.shape[1] * math.log(2 * math.pi)
            found.append(-0.5 * scaled.square().sum(-1) - volume)
        return torch.cat(found)

    return Pair(lambda _: mixture.log_density(points), naive, atol=1e-4)


@pair
def prototype_mining(small: bool) -> Pair:
    """The 20 best locations that MGProto's losses take; naive: of all prototypes, gathering features at each level."""
    mixture, rows = _prototype_maps(small)
    priors, levels = mixture.priors, 8 if small else 20
    log_density = mixture.log_density(rows.flatten(0, 1)).unflatten(0, rows.shape[:2])
    labels = torch.arange(len(rows))

    def naive(_: None) -> Tensor:
        best, place = log_density.exp().flatten(2).topk(levels, dim=1)
        kept = [rows.take_along_dim(place[:, level, :, None], 1) for level in range(levels)]
        assert len(kept) == levels
        scores = []
        for level in range(levels):
            values = best[:, level].unflatten(1, priors.shape).clone()
            if level:
                for row, label in enumerate(labels.tolist()):
                    others = torch.arange(len(priors)) != label
                    values[row, others] = best[row, 0].unflatten(0, priors.shape)[others]
            weight = torch.block_diag(*priors[:, None])
            scores.append(torch.nn.functional.linear(values.flatten(1), weight).log())
        return torch.stack(scores, -1)

    return Pair(lambda _: mine(log_density, priors, labels, levels).levels, naive, atol=1e-4)


@pair
def prototype_em(small: bool) -> Pair:
    """MGProto's EM of 60 classes at once; naive: class by class, autograd over all means, the bank copied."""
    mixture, _ = _prototype_maps(small)
    classes, components, dim = mixture.means.shape
    size, some = (10, 6) if small else (800, 60)
    queue = ClassQueue(classes, size, dim)
    queue.features.copy_(normalize(torch.randn(classes, size, dim), dim=-1))
    queue.count.fill_(size)

    def fresh() -> tuple[GaussianMixture, PrototypeEM]:
        em = PrototypeEM(classes, components, dim)
        em.touch(torch.arange(some))
        return copy.deepcopy(mixture), em

    def ours(made: tuple[GaussianMixture, PrototypeEM]) -> Tensor:
        made[1].update(made[0], queue, most=some)
        return made[0].means

    def naive(made: tuple[GaussianMixture, PrototypeEM]) -> Tensor:
        new, em = made
        sigma, before = new.variances.sqrt(), new.means.clone()
        volume = sigma.log().sum(-1) + 0.5 * dim * math.log(2 * math.pi)
        for number in range(some):
            x = queue.features.clone()[number]
            means = before.clone().requires_grad_()
            optimizer, priors = torch.optim.Adam([means], lr=em.lr), new.priors[number].clone()
            for _ in range(em.loops):
                density = -0.5 * ((x[:, None] - means[number]) / sigma[number]).square().sum(-1) - volume[number]
                joint = density + (priors + 1e-10).log()
                smoothed = joint.detach().softmax(1) + em.smoothing
                weights = smoothed / smoothed.sum(1, keepdim=True)
                apart = torch.exp(-(means[number][:, None] - means[number]).square().sum(-1))
                diversity = (apart.sum() - apart.trace()) / (components * (components - 1))
                optimizer.zero_grad()
                (-(weights * joint).sum(1).mean() + em.diversity * diversity).backward()
                optimizer.step()
                priors = em.momentum * priors + (1 - em.momentum) * (weights.sum(0) + 1e-10) / size
            new.means[number], new.priors[number] = means.detach()[number], priors
        return new.means

    return Pair(ours, naive, fresh, atol=1e-4)


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
