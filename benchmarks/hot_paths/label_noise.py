"""Wrong labels, and what GNL draws for them."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import Tensor

from benchmarks.hot_paths.frame import Pair, pair
from datamodules.label_noise import instance_noise, symmetric_noise
from zoo.methods.gnl.prior import coverage, draw_uncertainty


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
