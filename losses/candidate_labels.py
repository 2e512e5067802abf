"""Losses of samples whose true class is one of some candidates, and of heads that must agree on it: GNL's two terms."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from losses.registry import register
from zoo.core.distributed import gather_rows_with_grad, rank, world_size

FLOOR = 1e-9
"""What a class outside the candidates counts, so that no divergence is infinite."""


def log_prior(prior: Tensor) -> Tensor:
    """Logarithm of a prior [B, C] in float32, of excluded classes that of :data:`FLOOR`."""
    return prior.float().clamp_min(FLOOR).log()


def log_joint(log_p: Tensor, prior: Tensor) -> Tensor:
    """log π(y) p(y | x_i) / Σ_j p(y | x_j), float [B, C]: prior times the stand-in for a generator p(x_i | y).

    The sum runs over the batches of all ranks, which are equally long, and gradients pass through it to all of them.

    Args:
        log_p: log p(y | x_i), [B, C].
        prior: π, [B, C].
    """
    return gather_rows_with_grad(log_p).log_softmax(0).chunk(world_size())[rank()] + log_prior(prior)


def class_posterior(log_p: Tensor, prior: Tensor) -> Tensor:
    """:func:`log_joint`, normalised over classes: log q(y), [B, C], with gradient."""
    return log_joint(log_p, prior).log_softmax(1)


@register("implicit_generative", kind="candidate_labels")
def implicit_generative(log_p: Tensor, prior: Tensor) -> Tensor:
    """Pull predictions to the candidates, weighted by how typical the image is of each: GNL's prior term.

    KL(q ‖ p) with p the prediction and q ∝ π(y) p(y|x_i) / Σ_j p(y|x_j): the classifier's output, normalised over the
    batch, stands for a generator p(x|y). Gradients pass through q too, hence between samples, of all ranks. Depends on
    the batch size; accumulating gradients does not make up for a smaller one.

    Args:
        log_p: log-probabilities, float [B, C].
        prior: float [B, C], rows sum to 1, zero outside the candidates; no gradient.

    Returns:
        Scalar: mean over samples.
    """
    log_p = log_p.float()
    return F.kl_div(log_p, class_posterior(log_p, prior.detach()), reduction="batchmean", log_target=True)


@register("kl_from_teacher", kind="distillation")
def kl_from_teacher(student: Tensor, teacher: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the student's softmax from the teacher's, mean over samples.

    GNL's posterior term, with the head of the true label as teacher.

    Args:
        student: logits, float [B, C, ...].
        teacher: logits of the same shape; no gradient.

    Returns:
        Scalar: KL(teacher ‖ student), summed over all axes but the first.
    """
    student, teacher = student.float().log_softmax(1), teacher.detach().float().log_softmax(1)
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True)
