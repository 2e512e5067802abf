"""Which training samples are held out to validate on, and which form a smaller training set."""

from __future__ import annotations

from typing import Literal

import numpy as np
from torch import Tensor

from zoo.core.errors import RecipeError

Validation = float | Literal["test"]


def refuse_validation(value: Validation) -> None:
    """Raises RecipeError if `data.validation` is neither a share nor "test"."""
    if value != "test" and not (isinstance(value, float | int) and 0 <= value < 1):
        raise RecipeError(f"data.validation is {value}; it is a share below 1, or test.")


def ranks_within_classes(labels: Tensor, rng: np.random.Generator) -> np.ndarray:
    """Each sample's place in a random order of its class, int64 [N]."""
    labels = labels.numpy()
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    counts = np.bincount(labels)
    ranks = np.empty(len(labels), np.int64)
    ranks[order] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return ranks


def spread_share(labels: Tensor, share: float, rng: np.random.Generator) -> np.ndarray:
    """A drawn share of the samples, in which each class is as frequent as in all, as nearly as may be: bool [N]."""
    places = (ranks_within_classes(labels, rng) + 0.5) / np.bincount(labels)[labels]
    order = np.lexsort((rng.permutation(len(labels)), places))  # any first stretch of it is balanced
    chosen = np.zeros(len(labels), bool)
    chosen[order[: round(share * len(labels))]] = True
    return chosen
