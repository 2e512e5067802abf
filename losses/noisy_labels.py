"""Losses of kind `classification` for labels of which some are wrong. Label smoothing is a setting of `cross_entropy`.

p is the softmax, p_y that of the given label, l_c = -log p_c; all are computed in float32. `index` and `epoch` are
unused where a docstring does not name them; they are part of the kind's signature.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from losses.registry import register
from zoo.core.errors import RecipeError
from zoo.core.label_memory import LabelMemory

FLOOR = 1e-7


def _log_p(logits: Tensor) -> Tensor:
    return logits.float().log_softmax(1)


def _of(values: Tensor, labels: Tensor) -> Tensor:
    """[B, C] to the entries of the labels, [B]."""
    return values.gather(1, labels[:, None]).squeeze(1)


@register("mae", kind="classification")
def mae(logits: Tensor, labels: Tensor, *, index: Tensor | None = None, epoch: int | None = None) -> Tensor:
    """1 - p_y: half the mean absolute error of the softmax (Ghosh et al., AAAI 2017)."""
    return (1 - _of(_log_p(logits).exp(), labels)).mean()


@register("gce", kind="classification")
def gce(
    logits: Tensor, labels: Tensor, *, index: Tensor | None = None, epoch: int | None = None, q: float = 0.7
) -> Tensor:
    """Generalised cross-entropy, (1 - p_y^q) / q (Zhang & Sabuncu, NeurIPS 2018).

    Args:
        logits: float [B, C].
        labels: int64 [B].
        index, epoch: unused.
        q: between cross-entropy (towards 0) and `mae` (1).
    """
    p = _of(_log_p(logits).exp(), labels).clamp_min(FLOOR)
    return ((1 - p**q) / q).mean()


@register("rce", kind="classification")
def rce(
    logits: Tensor,
    labels: Tensor,
    *,
    index: Tensor | None = None,
    epoch: int | None = None,
    log_floor: float = 1e-4,
) -> Tensor:
    """Reverse cross-entropy, -Σ_c p_c log(one-hot label), zeros counting as `log_floor` (Wang et al., ICCV 2019)."""
    p = _log_p(logits).exp().clamp_min(FLOOR)
    return -math.log(log_floor) * (p.sum(1) - _of(p, labels)).mean()


@register("sce", kind="classification")
def sce(
    logits: Tensor,
    labels: Tensor,
    *,
    index: Tensor | None = None,
    epoch: int | None = None,
    alpha: float = 0.1,
    beta: float = 1.0,
) -> Tensor:
    """Symmetric cross-entropy, alpha CE + beta RCE (Wang et al., ICCV 2019); CIFAR-100: alpha 6, beta 0.1."""
    return alpha * F.cross_entropy(logits.float(), labels) + beta * rce(logits, labels)


@register("nce", kind="classification")
def nce(logits: Tensor, labels: Tensor, *, index: Tensor | None = None, epoch: int | None = None) -> Tensor:
    """Normalised cross-entropy, l_y / Σ_c l_c (Ma et al., ICML 2020)."""
    log_p = _log_p(logits)
    return (_of(log_p, labels) / log_p.sum(1)).mean()


@register("nce_rce", kind="classification")
def nce_rce(
    logits: Tensor,
    labels: Tensor,
    *,
    index: Tensor | None = None,
    epoch: int | None = None,
    alpha: float = 1.0,
    beta: float = 1.0,
) -> Tensor:
    """Active-passive loss, alpha NCE + beta RCE (Ma et al., ICML 2020); CIFAR-100: alpha 10, beta 0.1."""
    return alpha * nce(logits, labels) + beta * rce(logits, labels)


@register("nce_mae", kind="classification")
def nce_mae(
    logits: Tensor,
    labels: Tensor,
    *,
    index: Tensor | None = None,
    epoch: int | None = None,
    alpha: float = 1.0,
    beta: float = 1.0,
) -> Tensor:
    """Active-passive loss, alpha NCE + beta MAE (Ma et al., ICML 2020); CIFAR-100: alpha 10, beta 0.1."""
    return alpha * nce(logits, labels) + beta * mae(logits, labels)


def _focal(logits: Tensor, gamma: float) -> Tensor:
    """(1 - p_c)^gamma l_c for every class, [B, C]; no gradient through the first factor."""
    log_p = _log_p(logits)
    return -((1 - log_p.detach().exp()) ** gamma) * log_p


@register("focal", kind="classification")
def focal(
    logits: Tensor, labels: Tensor, *, index: Tensor | None = None, epoch: int | None = None, gamma: float = 0.5
) -> Tensor:
    """Focal loss, (1 - p_y)^gamma l_y (Lin et al., ICCV 2017), no gradient through the first factor."""
    return _of(_focal(logits, gamma), labels).mean()


@register("nfl_rce", kind="classification")
def nfl_rce(
    logits: Tensor,
    labels: Tensor,
    *,
    index: Tensor | None = None,
    epoch: int | None = None,
    alpha: float = 1.0,
    beta: float = 1.0,
    gamma: float = 0.5,
) -> Tensor:
    """Active-passive loss, alpha normalised focal + beta RCE (Ma et al., ICML 2020); CIFAR-100: alpha 10, beta 0.1."""
    values = _focal(logits, gamma)
    return alpha * (_of(values, labels) / values.sum(1)).mean() + beta * rce(logits, labels)


@register("bootstrap_soft", kind="classification")
def bootstrap_soft(
    logits: Tensor, labels: Tensor, *, index: Tensor | None = None, epoch: int | None = None, beta: float = 0.95
) -> Tensor:
    """Cross-entropy against a share `beta` of the label and 1 - beta of the prediction (Reed et al., 2015).

    Gradients pass through the prediction as target too: the second part lowers the entropy.
    """
    log_p = _log_p(logits)
    return -(beta * _of(log_p, labels) + (1 - beta) * (log_p.exp() * log_p).sum(1)).mean()


@register("bootstrap_hard", kind="classification")
def bootstrap_hard(
    logits: Tensor, labels: Tensor, *, index: Tensor | None = None, epoch: int | None = None, beta: float = 0.8
) -> Tensor:
    """Cross-entropy against a share `beta` of the label and 1 - beta of the predicted class (Reed et al., 2015)."""
    log_p = _log_p(logits)
    return -(beta * _of(log_p, labels) + (1 - beta) * log_p.amax(1)).mean()


@register("elr", kind="classification")
class EarlyLearningRegularisation(nn.Module):
    """Cross-entropy plus a pull to what was predicted of the sample early on (Liu et al., NeurIPS 2020).

    ce + strength · mean log(1 - Σ_c t_c p_c), where t is a moving average of the sample's own predictions, updated
    before it is used, without gradient. It is remembered for every training sample: needs `index`.

    Args:
        beta: momentum of t; 0.7 for symmetric noise on CIFAR-10, else 0.9.
        strength: λ; 3 for symmetric noise on CIFAR-10, 1 for asymmetric, 7 on CIFAR-100.
    """

    clamp = 1e-4

    def __init__(self, beta: float = 0.7, strength: float = 3.0) -> None:
        super().__init__()
        self.beta, self.strength = beta, strength

    def setup(self, num_samples: int, num_classes: int) -> None:
        self.memory = LabelMemory(num_samples, num_classes)

    def forward(
        self, logits: Tensor, labels: Tensor, *, index: Tensor | None = None, epoch: int | None = None
    ) -> Tensor:
        """A collective: updates the memory by the samples of all ranks. `index`: int64 [B], required.

        Raises:
            RecipeError: without `index`, or before :meth:`setup`.
        """
        if index is None or not hasattr(self, "memory"):
            raise RecipeError(
                "The loss 'elr' remembers every training sample, and this method's slot does not tell which samples it "
                "is given. Choose another loss for it."
            )
        p = logits.float().softmax(1).clamp(self.clamp, 1 - self.clamp)
        self.memory.update(index, p / p.sum(1, keepdim=True), momentum=self.beta)
        agreement = (self.memory[index] * p).sum(1)
        return F.cross_entropy(logits.float(), labels) + self.strength * (1 - agreement).log().mean()
