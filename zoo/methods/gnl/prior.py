"""The partial-label prior: for each sample the few classes that it may really have (section "prior" of the paper).

The candidates are the given label, a class drawn from what was predicted of the sample before, and, the likelier its
label is wrong, the more classes drawn at random.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo.core.label_memory import LabelMemory

CLAMP = 1e-4


def sampling_distribution(average: Tensor, temperature: float) -> Tensor:
    """From which the coverage class is drawn: c^(1/T), rows sum to 1.

    Args:
        average: moving average of predictions c, [B, C].
        temperature: T; 0.5 squares c.
    """
    sharpened = average ** (1 / temperature)
    return sharpened / sharpened.sum(1, keepdim=True)


def draw_class(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """A class per row: int64 [B].

    Args:
        probabilities: [B, C], rows sum to 1.
        uniform: [B], drawn from [0, 1).
    """
    cumulated = probabilities.cumsum(1)
    return (cumulated < uniform[:, None] * cumulated[:, -1:]).sum(1).clamp_max(probabilities.shape[1] - 1)


def coverage(classes: int, *labels: Tensor) -> Tensor:
    """bool [B, C]: the given labels and the drawn classes, each int64 [B]."""
    numbers = torch.arange(classes, device=labels[0].device)  # one_hot would wait for the device
    return (torch.stack(labels)[..., None] == numbers).any(0)


def uncertainty_count(noise_probability: Tensor, covered: Tensor, leave_out: int) -> Tensor:
    """How many further classes a sample gets after warm-up: round(w (m - leave_out)), halves to even.

    Args:
        noise_probability: w, [B] in [0, 1].
        covered: bool [B, C]; m is the number of classes that it leaves.
        leave_out: classes that stay outside at the least.

    Returns:
        int64 [B].
    """
    free = (~covered).sum(1)
    return (noise_probability * (free - leave_out)).round().long().clamp_min(0)


def warmup_count(uniform: Tensor, classes: int, leave_out: int) -> Tensor:
    """How many further classes a sample gets in warm-up: any of 0 … C - 2 - leave_out, equally likely; int64 [B].

    Args:
        uniform: [B], drawn from [0, 1).
    """
    return (uniform * max(classes - 1 - leave_out, 1)).long()


def draw_uncertainty(covered: Tensor, count: Tensor, keys: Tensor) -> Tensor:
    """Classes outside the coverage, drawn without replacement: bool [B, C].

    Args:
        covered: bool [B, C].
        count: int64 [B].
        keys: [B, C], drawn uniformly from [0, 1); the `count` free classes with the smallest are taken.
    """
    place = keys.masked_fill(covered, torch.inf).argsort(1).argsort(1)
    return (place < count[:, None]) & ~covered


def candidate_prior(candidates: Tensor) -> Tensor:
    """1 / (number of candidates) on them, 0 elsewhere: float [B, C].

    Args:
        candidates: bool [B, C], at least one per row.
    """
    return candidates.float() / candidates.sum(1, keepdim=True)


class TrainingMemory(nn.Module):
    """What training remembers of its samples; equal on all ranks, kept in checkpoints.

    Args:
        num_samples: N.
        num_classes: C.
        networks: K, 1 or 2.

    Attributes:
        averages: per network, the moving average c [N, C] of its predictions, 1/C at first.
        noise_probability: float32 [K, N], w by each network's losses at the latest look at the training set.
        joint: float32 [C, C], sum over samples of p(true class) × p(given label) at that look; zeros before the first.
        true_counts: int64 [C, C], how often each true class was given each label; zeros where that is not known.
    """

    noise_probability: Tensor
    joint: Tensor
    true_counts: Tensor

    def __init__(self, num_samples: int, num_classes: int, networks: int) -> None:
        super().__init__()
        self.averages = nn.ModuleList(
            LabelMemory(num_samples, num_classes, initial=1 / num_classes) for _ in range(networks)
        )
        self.register_buffer("noise_probability", torch.zeros(networks, num_samples))
        self.register_buffer("joint", torch.zeros(num_classes, num_classes))
        self.register_buffer("true_counts", torch.zeros(num_classes, num_classes, dtype=torch.int64))

    def remember(self, network: int, index: Tensor, logits: Tensor, momentum: float) -> None:
        """Move c of all ranks' samples towards a network's predictions: c <- m c + (1 - m) softmax(logits), clamped.

        A collective.

        Args:
            network: which one, from 0.
            index: int64 [B].
            logits: [B, C], of training mode.
            momentum: m.
        """
        p = logits.detach().float().softmax(1).clamp(CLAMP, 1 - CLAMP)
        self.averages[network].update(index, p / p.sum(1, keepdim=True), momentum=momentum)
