"""Wrong labels made on purpose, as GNL's published loader draws them (arXiv:2308.01184), and kept in a file.

The draws are those of the published code, call by call: equal seeds give the published labels.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from zoo.core.errors import CheckpointError, DataError
from zoo.core.reading import read_tensors

# -- generators ----------------------------------------------------------------------------------------------------


def _chosen(count: int, rate: float, rng: random.Random) -> list[int]:
    """The samples that are given a drawn label, ascending."""
    order = list(range(count))
    rng.shuffle(order)
    return sorted(order[: int(rate * count)])


def symmetric_noise(labels: Tensor, num_classes: int, rate: float, rng: random.Random) -> Tensor:
    """Any class instead of the true one.

    Args:
        labels: int64 [N], in 0 … C - 1.
        rate: share of the samples whose label is drawn. The draw may be the true class, so that a share of
            `rate` (C - 1) / C is wrong.

    Returns:
        int64 [N].
    """
    chosen, noisy = _chosen(len(labels), rate, rng), labels.clone()
    noisy[chosen] = torch.tensor([rng.randint(0, num_classes - 1) for _ in chosen], dtype=labels.dtype)
    return noisy


def asymmetric_noise(labels: Tensor, mapping: Sequence[int], rate: float, rng: random.Random) -> Tensor:
    """The class that is easily taken for the true one.

    Args:
        labels: int64 [N], in 0 … C - 1.
        mapping: for each class the one that it becomes, perhaps itself.
        rate: share of the samples that are mapped.

    Returns:
        int64 [N].
    """
    chosen, noisy = _chosen(len(labels), rate, rng), labels.clone()
    noisy[chosen] = torch.tensor(mapping, dtype=labels.dtype)[labels[chosen]]
    return noisy


class InstanceNoise(NamedTuple):
    """What :func:`instance_noise` draws.

    `labels`: int64 [N]. `flip_rates`: float64 [N]. `projections`: float32 [C, D, C]. `probabilities`: of each label,
    float64 [N, C].
    """

    labels: Tensor
    flip_rates: Tensor
    projections: Tensor
    probabilities: Tensor


def instance_noise(
    images: Tensor, labels: Tensor, num_classes: int, rate: float, rng: np.random.RandomState, std: float = 0.1
) -> InstanceNoise:
    """A wrong class that the image itself suggests, by a random projection of its class (Xia et al., NeurIPS 2020,
    part-dependent label noise, algorithm 2).

    The published benchmark takes raw pixels, 0 to 255: the softmax is then one-hot, and each image has just one wrong
    label that it can get.

    Args:
        images: [N, …], D numbers each, of any dtype. Published: height, width, channel.
        labels: int64 [N], in 0 … C - 1.
        rate: mean of the samples' flip rates, which are normal with `std` and truncated to [0, 1].
    """
    flip_rates = rate + std * _standard_normal_between(-rate / std, (1 - rate) / std, rng.random_sample(len(labels)))
    flip_rates = flip_rates.clamp(0, 1)  # which rounding may leave
    dim = images[0].numel()
    projections, scores = torch.empty(num_classes, dim, num_classes), torch.empty(len(labels), num_classes)
    for number in range(num_classes):  # all images or projections at once, as floats, would be gigabytes
        projections[number] = torch.from_numpy(rng.standard_normal((dim, num_classes)))
        of_class = (labels == number).nonzero()[:, 0]
        scores[of_class] = images[of_class].flatten(1).float() @ projections[number]
    own = labels[:, None]
    probabilities = scores.scatter(1, own, -torch.inf).softmax(1).double() * flip_rates[:, None]
    probabilities.scatter_(1, own, 1 - flip_rates[:, None])
    cumulative = probabilities.cumsum(1)
    cumulative /= cumulative[:, -1:].clone()
    drawn = (cumulative <= torch.from_numpy(rng.random_sample(len(labels)))[:, None]).sum(1)
    return InstanceNoise(drawn, flip_rates, projections, probabilities)


def _standard_normal_between(low: float, high: float, uniform: np.ndarray) -> Tensor:
    """Draws of the normal distribution truncated to [low, high], from draws in [0, 1)."""
    low, high = (torch.special.ndtr(torch.tensor(end, dtype=torch.float64)) for end in (low, high))
    return torch.special.ndtri(low + torch.from_numpy(uniform) * (high - low))


def transition_counts(clean: Tensor, noisy: Tensor, num_classes: int) -> Tensor:
    """How often each true class (row) was given each label (column): int64 [C, C]."""
    return torch.bincount(clean * num_classes + noisy, minlength=num_classes**2).view(num_classes, num_classes)


def transition_matrix(clean: Tensor, noisy: Tensor, num_classes: int) -> Tensor:
    """Share of each label (column) among the samples of a true class (row), float64 [C, C]; 0 for absent classes."""
    counts = transition_counts(clean, noisy, num_classes).double()
    return counts / counts.sum(1, keepdim=True).clamp_min(1)


# -- on disk -------------------------------------------------------------------------------------------------------


def fingerprint(*arrays: Tensor | np.ndarray) -> str:
    """SHA-256 of the arrays' bytes, one after the other, with their dtypes and shapes."""
    found = hashlib.sha256()
    for array in map(np.asarray, arrays):
        found.update(f"{array.dtype.str}{array.shape}".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def kept_labels(path: Path, data: str, num_classes: int, count: int, draw: Callable[[], Tensor]) -> Tensor:
    """The labels in a file; drawn and written first if there is none.

    Args:
        path: of the file.
        data: fingerprint of what they were drawn from.
        num_classes, count: what they must fit.
        draw: gives int64 [count].

    Raises:
        DataError: if the file is broken or was made for other data, or cannot be written.
    """
    if not path.exists():
        _write(path, data, draw())
    remedy = "Delete it, and it is drawn anew; runs that were trained with it cannot be resumed then."
    try:
        content = read_tensors(path)
    except CheckpointError as error:
        raise DataError(f"{error} {remedy}") from None
    labels = content.tensors.get("labels")
    if content.metadata.get("data") != data:
        raise DataError(f"{path} holds labels that were drawn for other images or true labels than are here. {remedy}")
    if labels is None or labels.dtype != torch.int64 or content.metadata.get("labels") != fingerprint(labels):
        raise DataError(f"{path} is not what was written there. {remedy}")
    refuse_labels(labels, num_classes, count, f"{path}: its labels")
    return labels


def _write(path: Path, data: str, labels: Tensor) -> None:
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        metadata = {"data": data, "labels": fingerprint(labels)}
        unfinished.write_bytes(safetensors.torch.save({"labels": labels}, metadata))
        unfinished.replace(path)
    except OSError as error:
        raise DataError(
            f"{path} cannot be written: {error.strerror}. Drawn labels are kept there, so that a resumed run goes "
            "on with its own."
        ) from error


def refuse_labels(labels: Tensor, num_classes: int, count: int, what: str) -> None:
    """Raises DataError if there are not `count` labels, or one is outside the classes."""
    if labels.shape != (count,):
        raise DataError(f"{what} should be {count:,}, and there are {'×'.join(map(str, labels.shape))}.")
    wrong = ((labels < 0) | (labels >= num_classes)).nonzero()
    if len(wrong):
        first = int(wrong[0, 0])
        raise DataError(f"{what} should be 0 to {num_classes - 1}; that of sample {first} is {int(labels[first])}.")
