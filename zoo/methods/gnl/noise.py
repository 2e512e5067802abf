"""How likely each label is wrong: a mixture of two Gaussians on the losses of all training samples."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import torch
from torch import Tensor

from zoo.core.distributed import rank, sum_over_ranks
from zoo.core.extras import require


class LossMixture(NamedTuple):
    """Two Gaussians on losses scaled to [0, 1], that of small losses first.

    Attributes:
        noise_probability: float64 [N], 1 minus the posterior of the first.
        means, weights, variances: float64 [2].
    """

    noise_probability: Tensor
    means: Tensor
    weights: Tensor
    variances: Tensor


def fit_losses(losses: Tensor, seed: int = 0) -> LossMixture:
    """Fit the mixture, on the CPU.

    Losses that are all alike tell nothing: then no label counts as wrong.

    Args:
        losses: [N].
        seed: of the k-means that EM starts from.
    """
    losses = losses.double().cpu()  # sync: once per epoch
    low, high = losses.aminmax()
    if low == high:
        half = torch.tensor([0.5, 0.5], dtype=torch.float64)
        return LossMixture(torch.zeros_like(losses), torch.zeros_like(half), half, torch.zeros_like(half))
    scaled = ((losses - low) / (high - low)).numpy()[:, None]
    mixture = require("sklearn.mixture", "vision").GaussianMixture(
        n_components=2, max_iter=20, tol=1e-2, reg_covar=5e-4, random_state=seed % 2**32
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", require("sklearn.exceptions", "vision").ConvergenceWarning)  # 20 steps are few
        mixture.fit(scaled)
    order = mixture.means_[:, 0].argsort()
    posterior = mixture.predict_proba(scaled)[:, order[0]]
    found = (1 - posterior, mixture.means_[order, 0], mixture.weights_[order], mixture.covariances_[order, 0, 0])
    return LossMixture(*map(torch.from_numpy, found))


def noise_probability(losses: Tensor, seed: int = 0) -> Tensor:
    """:func:`fit_losses` by the first rank, for all: float32 [N] on the device of `losses`, which all ranks have."""
    found = fit_losses(losses, seed).noise_probability if rank() == 0 else torch.zeros(len(losses))
    return sum_over_ranks(found.float().to(losses.device))
