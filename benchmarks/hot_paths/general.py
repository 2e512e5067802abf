"""Pieces that several methods use."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.hot_paths.frame import Pair, pair
from zoo.core.extras import require
from zoo.networks.mfcc import MFCC
from zoo.state import ClassQueue, GaussianMixture


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
