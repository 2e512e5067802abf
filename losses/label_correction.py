"""Losses of kind `classification` that know how labels go wrong, T[i, j] = p(given j | true i).

They start as plain cross-entropy. In the last epoch of this warm-up they remember, for each class, the posterior of the
sample that is surest of it (its anchor point); these rows are T from then on. Equal on all ranks, kept in checkpoints.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from losses.registry import register
from zoo.core.distributed import gather_rows
from zoo.core.errors import RecipeError


def forward_corrected(logits: Tensor, labels: Tensor, transition: Tensor) -> Tensor:
    """-log (p T)_y, mean over samples (Patrini et al., CVPR 2017).

    Args:
        logits: float [B, C].
        labels: int64 [B], given labels.
        transition: T, [C, C].
    """
    mixed = logits.float().softmax(1) @ transition
    return F.nll_loss(mixed.clamp_min(torch.finfo(mixed.dtype).tiny).log(), labels)


def backward_corrected(logits: Tensor, labels: Tensor, transition: Tensor) -> Tensor:
    """(T^-1 l)_y with l_c = -log p_c, mean over samples (Patrini et al., CVPR 2017). Args: as of forward_corrected."""
    losses = -logits.float().log_softmax(1)
    return (torch.linalg.inv(transition)[labels] * losses).sum(1).mean()


def reweighted(logits: Tensor, labels: Tensor, transition: Tensor, revision: Tensor | None = None) -> Tensor:
    """β CE with β = p_y / (p T)_y, mean over samples (Liu & Tao, TPAMI 2016; T-Revision, Xia et al., NeurIPS 2019).

    Args:
        logits: float [B, C].
        labels: int64 [B].
        transition: T, [C, C].
        revision: ΔT, added to T once; then gradients pass through β, to it and to the logits. Without it they do not.
            (The published code adds ΔT again for every sample of a batch.)
    """
    log_p = logits.float().log_softmax(1)
    p = log_p.exp()
    mixed = p @ (transition if revision is None else transition + revision)
    chosen = labels[:, None]
    beta = (p.gather(1, chosen) / mixed.gather(1, chosen)).squeeze(1)
    if revision is None:
        beta = beta.detach()
    return (beta * -log_p.gather(1, chosen).squeeze(1)).mean()


class _Corrected(nn.Module):
    """Plain cross-entropy until T is known, then :meth:`corrected`.

    Args:
        warmup_epochs: epochs of plain cross-entropy; T is found in the last of them.
    """

    transition: Tensor
    confidence: Tensor

    def __init__(self, warmup_epochs: int = 10) -> None:
        super().__init__()
        if warmup_epochs < 1:
            raise RecipeError(f"warmup_epochs is {warmup_epochs}; T is found in the last of them, so give at least 1.")
        self.warmup_epochs = warmup_epochs

    def setup(self, num_samples: int, num_classes: int) -> None:
        self.register_buffer("transition", torch.eye(num_classes))
        self.register_buffer("confidence", torch.zeros(num_classes))

    def forward(
        self, logits: Tensor, labels: Tensor, *, index: Tensor | None = None, epoch: int | None = None
    ) -> Tensor:
        """A collective in the last epoch of the warm-up. `epoch` is required, `index` unused.

        Raises:
            RecipeError: without `epoch`, or before :meth:`setup`.
        """
        if epoch is None or not hasattr(self, "transition"):
            raise RecipeError(
                "A loss with a transition matrix finds it in an epoch of its own, and this method's slot does not tell "
                "which epoch runs. Choose another loss for it."
            )
        if epoch >= self.warmup_epochs:
            return self.corrected(logits, labels, self.transition)
        if epoch == self.warmup_epochs - 1:
            self._find_anchors(gather_rows(logits.float().softmax(1)))
        return F.cross_entropy(logits.float(), labels)

    def corrected(self, logits: Tensor, labels: Tensor, transition: Tensor) -> Tensor:
        raise NotImplementedError

    @torch.no_grad()
    def _find_anchors(self, posterior: Tensor) -> None:
        """Rows of the samples that are surest of each class so far, [N, C] of all ranks."""
        confidence, surest = posterior.max(0)
        surer = confidence > self.confidence
        self.transition.copy_(torch.where(surer[:, None], posterior[surest], self.transition))
        self.confidence.copy_(torch.maximum(confidence, self.confidence))


@register("forward_correction", kind="classification")
class ForwardCorrection(_Corrected):
    """Cross-entropy of the given label's posterior p T (Patrini et al., CVPR 2017)."""

    def corrected(self, logits: Tensor, labels: Tensor, transition: Tensor) -> Tensor:
        return forward_corrected(logits, labels, transition)


@register("backward_correction", kind="classification")
class BackwardCorrection(_Corrected):
    """Cross-entropy that is right in expectation over wrong labels, by the inverse of T (Patrini et al., CVPR 2017)."""

    def corrected(self, logits: Tensor, labels: Tensor, transition: Tensor) -> Tensor:
        return backward_corrected(logits, labels, transition)


@register("importance_reweighting", kind="classification")
class ImportanceReweighting(_Corrected):
    """Cross-entropy weighted by how much likelier a label is true than given, without gradient (Liu & Tao, 2016)."""

    def corrected(self, logits: Tensor, labels: Tensor, transition: Tensor) -> Tensor:
        return reweighted(logits, labels, transition)
