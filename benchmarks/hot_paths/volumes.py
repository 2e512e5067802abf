"""Training steps and evaluation on volumes of several modalities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.hot_paths.frame import Pair, pair
from zoo.methods.lckd import election
from zoo.methods.lckd.module import LCKD
from zoo.methods.mckd import importance
from zoo.methods.mckd.module import MCKD
from zoo.methods.shaspec.volume_module import ShaSpec
from zoo.methods.shaspec.volume_network import ShaSpecVolumeNet
from zoo.metrics.subsets import all_subsets
from zoo.networks.availability import fill_with_mean


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


def _sets(small: bool) -> list[list[int]]:
    """All 15 sets of modalities, as trainings draw them; small: one of each size."""
    return [[2], [3, 0], [1, 0, 2], [0, 1, 2, 3]] if small else [[*map(int, there)] for there in all_subsets("0123")]


def _train_biases(model: Any) -> None:
    for name, parameter in model.network.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)


def _volumes(small: bool) -> tuple[ShaSpec, Tensor, Tensor]:
    """float64, in which both forms agree closely: features of zero volumes are noisy in float32.

    With biases as of a trained network: where all are 0, gradients of zero volumes grow 300-fold with every norm.
    """
    window = _size(small)
    model = ShaSpec(width=2 if small else 16, window=window).double()
    _train_biases(model)
    return model, torch.randn(2, 4, *window).double(), torch.randint(2, (2, 3, *window))


@pair
def shaspec_training_step(small: bool) -> Pair:
    """Loss and gradient of ShaSpec; naive: all volumes through all encoders, zeros or not."""
    model, images, mask = _volumes(small)
    domains = torch.arange(4).repeat(2)

    def result(losses: list[Tensor]) -> Tensor:
        model.zero_grad()
        sum(losses).backward()
        norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
        return torch.stack([*map(Tensor.detach, losses), norm])

    def ours(_: None) -> Tensor:
        return torch.cat([result([*model.terms(images, mask, [there] * 2).values()]) for there in _sets(small)])

    def naive(_: None) -> Tensor:
        found = []
        for there in _sets(small):
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


@pair
def lckd_training_step(small: bool) -> Pair:
    """Losses and gradients of LCKD; naive: as the released code, which encodes a zero volume for each missing one."""
    model = _volume_model(LCKD, small)
    return _training_step(model, lambda there: election.teaching(model.teachers, there))


@pair
def mckd_training_step(small: bool) -> Pair:
    """The same of MCKD."""
    model = _volume_model(MCKD, small)
    return _training_step(model, lambda there: importance.teaching(model.raw_importance, there))


@pair
def mckd_meta_step(small: bool) -> Pair:
    """Gradient of the importance weights; naive: as the released code, through the whole network and to its weights."""
    model = _volume_model(MCKD, small)
    images, mask = _images(1, small)

    def ours(_: None) -> Tensor:
        raw = model.raw_importance.detach().requires_grad_()
        logits = model.meta_logits(images, [[0, 1, 2, 3]], importance.importance(raw))
        return torch.autograd.grad(model.losses.task(logits, mask), raw)[0]

    def naive(_: None) -> Tensor:
        raw = model.raw_importance.detach().requires_grad_()
        features, skips = _encode_all(model, images)
        scaled = features * importance.importance(raw).view(-1, 1, 1, 1, 1)
        logits = model.network.decoder(scaled.flatten(1, 2), [skip.flatten(1, 2) for skip in skips])
        model.losses.task(logits, mask).backward()
        return raw.grad

    return Pair(ours, naive, model.zero_grad, atol=1e-8 if small else 1e-4)


def _volume_model(method: type[LCKD | MCKD], small: bool) -> Any:
    """Published width in float32; small and in float64, where features of zero volumes are the same to rounding."""
    model = method(width=2 if small else 64, window=_size(small))
    _train_biases(model)
    return model.double() if small else model


def _size(small: bool) -> tuple[int, int, int]:
    return (16, 32, 64) if small else (32, 64, 64)


def _images(samples: int, small: bool) -> tuple[Tensor, Tensor]:
    images, mask = torch.randn(samples, 4, *_size(small)), torch.rand(samples, 3, *_size(small)) < 0.3
    return (images.double() if small else images), mask


def _encode_all(model: Any, images: Tensor) -> tuple[Tensor, list[Tensor]]:
    features, skips = model.network.shared_encoder(images.flatten(0, 1)[:, None])
    return features.unflatten(0, (len(images), -1)), [skip.unflatten(0, (len(images), -1)) for skip in skips]


def _training_step(model: Any, weight: Callable[[Tensor], Tensor]) -> Pair:
    """Of the sets of :func:`_sets`, one after another."""
    small = next(model.parameters()).dtype == torch.float64
    images, mask = _images(2, small)

    def naive_terms(there: list[int]) -> dict[str, Tensor]:
        flags = torch.tensor([m in there for m in range(4)])
        features, skips = _encode_all(model, torch.where(flags.view(-1, 1, 1, 1), images, 0.0))
        features = features.transpose(0, 1)
        filled = fill_with_mean(features, flags).transpose(0, 1).flatten(1, 2)
        logits = model.network.decoder(filled, [skip.flatten(1, 2) for skip in skips])
        return {"task": model.losses.task(logits, mask), "distil": model.losses.distil(features, weight(flags))}

    def steps(terms: Callable[[list[int]], dict[str, Tensor]]) -> Tensor:
        totals = []
        for there in _sets(small):
            found = terms(there)
            totals.append(found["task"] + 0.1 * found["distil"])
            totals[-1].backward()
        # The encoder's gradients of small volumes are rounding errors blown up by norms of two voxels.
        gradients = [p.grad.norm() for p in model.network.decoder.parameters()] if small else []
        return torch.stack([*totals, *gradients]).detach()

    def ours(_: None) -> Tensor:
        return steps(lambda there: model.terms(images, mask, [there] * len(images)))

    return Pair(ours, lambda _: steps(naive_terms), model.zero_grad, atol=1e-8, rtol=1e-6 if small else 1e-2)
