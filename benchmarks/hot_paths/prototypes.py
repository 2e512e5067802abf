"""Mixtures of prototypes: densities, mining, updates."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks.hot_paths.frame import Pair, pair
from zoo.methods.mgproto.em import PrototypeEM
from zoo.methods.mgproto.network import mine
from zoo.state import ClassQueue, GaussianMixture


def _prototype_maps(small: bool) -> tuple[GaussianMixture, Tensor]:
    """MGProto's mixture for CUB, and the unit features of 8 images of 14×14 locations [B·N, D]."""
    classes, components, dim, images, locations = (20, 5, 16, 2, 16) if small else (200, 10, 64, 8, 196)
    mixture = GaussianMixture(classes, components, dim)
    mixture.means.copy_(normalize(torch.rand(classes, components, dim), dim=-1))
    mixture.variances.fill_(1 / (2 * math.pi))
    return mixture, normalize(torch.randn(images * locations, dim), dim=-1).unflatten(0, (images, locations))


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
