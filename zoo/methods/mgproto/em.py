"""MGProto's modified EM (section 4.2 of the method's code): means by Adam, priors by momentum, variances fixed."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from zoo.core.names import unknown
from zoo.state import ClassQueue, GaussianMixture

Mode = Literal["batched", "sequential"]


class PrototypeEM(nn.Module):
    """Fits the mixtures of the classes that a step has touched to their queues.

    A class starts when its queue is full; one that is not waits. Each update repeats `loops` times: responsibilities,
    smoothed; one Adam step on the weighted negative log-likelihood plus diversity of the means; priors by momentum.

    Args:
        num_classes, components, dim: of the mixture: C, K, D.
        mode: "sequential" is the published order: classes one after the other, one Adam over the means of all, so that
            each step also moves the other classes through their moments; and a class touched before EM began is
            updated by its first call. "batched" fits all classes of a step at once, each with moments of its own.
        lr: of Adam.
        loops: per update.
        smoothing: alpha, added to responsibilities before they are normalised again.
        momentum: tau, of the priors.
        diversity: lambda, weight of the mean of exp(-|mu_i - mu_j|^2) over pairs of a class's means.

    Attributes:
        exp_avg, exp_avg_sq: Adam's moments [C, K, D].
        steps: Adam's steps, int64 [C].
        pending: bool [C], classes touched since their last update.
    """

    exp_avg: Tensor
    exp_avg_sq: Tensor
    steps: Tensor
    pending: Tensor
    betas, eps = (0.9, 0.999), 1e-8

    def __init__(
        self,
        num_classes: int,
        components: int,
        dim: int,
        mode: Mode = "batched",
        lr: float = 3e-3,
        loops: int = 3,
        smoothing: float = 0.1,
        momentum: float = 0.99,
        diversity: float = 1.0,
    ) -> None:
        super().__init__()
        if mode not in get_args(Mode):
            raise unknown("mode of EM", mode, get_args(Mode))
        self.mode, self.lr, self.loops = mode, lr, loops
        self.smoothing, self.momentum, self.diversity = smoothing, momentum, diversity
        self.register_buffer("exp_avg", torch.zeros(num_classes, components, dim))
        self.register_buffer("exp_avg_sq", torch.zeros(num_classes, components, dim))
        self.register_buffer("steps", torch.zeros(num_classes, dtype=torch.int64))
        self.register_buffer("pending", torch.zeros(num_classes, dtype=torch.bool))

    def touch(self, labels: Tensor) -> None:
        """Note the classes whose queues grew: int64 [N], of all ranks."""
        self.pending[labels] = True

    def skip(self) -> None:
        """End a step without an update. Of the modes, only the published one remembers what it missed."""
        if self.mode == "batched":
            self.pending.zero_()

    @torch.no_grad()
    def update(self, mixture: GaussianMixture, queue: ClassQueue, most: int) -> Tensor:
        """Update the mixture, in place, for the touched classes whose queues are full.

        Args:
            mixture: changed; equal on all ranks.
            queue: its classes' features, equal on all ranks.
            most: how many classes can have been touched: a bound that the host knows, of the batched mode.

        Returns:
            Mean log-likelihood of the queues before each loop, in order of execution: [classes, loops]. In the batched
            mode there are `most` rows, NaN for those without a class.
        """
        ready = self.pending & queue.is_full
        self.pending.zero_()
        with torch.autocast(queue.features.device.type, enabled=False):
            if self.mode == "batched":
                return self._batched(mixture, queue, ready, min(most, len(ready)))
            found = []
            for number in ready.nonzero():  # sync: the published order is one class after the other
                found.append(torch.stack([self._sequential(mixture, queue, number) for _ in range(self.loops)]))
        return torch.cat(found, 1).T if found else queue.features.new_empty(0, self.loops)

    def _batched(self, mixture: GaussianMixture, queue: ClassQueue, ready: Tensor, most: int) -> Tensor:
        # The first `most` of the classes, ready ones before others: a number of rows that the host knows. What is
        # computed for classes that are not ready is not written.
        classes = ready.int().argsort(descending=True, stable=True)[:most]
        now = ready[classes]
        kept = (mixture.means, mixture.priors, self.exp_avg, self.exp_avg_sq, self.steps)
        before = [tensor[classes] for tensor in kept]
        x, found = queue.features[classes], []
        for _ in range(self.loops):
            gradient, priors, log_likelihood = self._expectation(mixture, x, classes)
            self._adam(mixture.means, gradient, classes)
            mixture.priors[classes] = priors
            found.append(log_likelihood)
        for tensor, old in zip(kept, before, strict=True):
            tensor[classes] = torch.where(now.view(-1, *[1] * (old.dim() - 1)), tensor[classes], old)
        return torch.where(now[:, None], torch.stack(found, 1), torch.nan)

    def _sequential(self, mixture: GaussianMixture, queue: ClassQueue, number: Tensor) -> Tensor:
        gradient = torch.zeros_like(mixture.means)
        gradient[number], priors, log_likelihood = self._expectation(mixture, queue.features[number], number)
        self._adam(mixture.means, gradient, slice(None))
        mixture.priors[number] = priors
        return log_likelihood

    def _expectation(self, mixture: GaussianMixture, x: Tensor, classes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradient of the M step's loss for the means [M, K, D], new priors [M, K], mean log-likelihood [M].

        Args:
            x: [M, n, D], queues of the classes int64 [M].
        """
        joint = mixture.log_joint(x, classes)
        smoothed = joint.softmax(-1) + self.smoothing
        weights = smoothed / smoothed.sum(-1, keepdim=True)
        means, size = mixture.means[classes], x.shape[1]
        mass = weights.sum(1)
        pull = (weights.mT @ x - mass[:, :, None] * means) / (mixture.variances[classes] * size)
        gradient = self.diversity * diversity_gradient(means) - pull
        priors = torch.lerp((mass + 1e-10) / size, mixture.priors[classes], self.momentum)
        return gradient, priors, joint.logsumexp(-1).mean(1)

    def _adam(self, means: Tensor, gradient: Tensor, rows: Tensor | slice) -> None:
        """torch.optim.Adam's step, each row by the number of its own steps."""
        self.steps[rows] += 1
        first = torch.lerp(self.exp_avg[rows], gradient, 1 - self.betas[0])
        second = torch.lerp(self.exp_avg_sq[rows], gradient.square(), 1 - self.betas[1])
        self.exp_avg[rows], self.exp_avg_sq[rows] = first, second
        steps = self.steps[rows].double()[:, None, None]
        step_size = (self.lr / (1 - self.betas[0] ** steps)).to(first)
        correction = (1 - self.betas[1] ** steps).sqrt().to(first)
        means[rows] -= step_size * first / (second.sqrt() / correction + self.eps)


def diversity(means: Tensor) -> Tensor:
    """Mean over ordered pairs i != j of exp(-|mu_i - mu_j|^2) of each class: [M, K, D] to [M]; 0 for K = 1."""
    return _closeness(means).sum((1, 2)) / max(means.shape[1] * (means.shape[1] - 1), 1)


def diversity_gradient(means: Tensor) -> Tensor:
    """Gradient of :func:`diversity` for the means: [M, K, D]."""
    count, closeness = means.shape[1], _closeness(means)
    return -4 / max(count * (count - 1), 1) * (closeness.sum(-1, keepdim=True) * means - closeness @ means)


def _closeness(means: Tensor) -> Tensor:
    """exp(-|mu_i - mu_j|^2) [M, K, K], 0 on the diagonal."""
    squares = (means[:, :, None] - means[:, None]).square().sum(-1)
    return torch.exp(-squares) * ~torch.eye(means.shape[1], dtype=torch.bool, device=means.device)


def prune(priors: Tensor, keep: int) -> Tensor:
    """Priors [C, K] with all but each class's `keep` largest at 0, ties kept. They are not renormalised."""
    least = priors.topk(min(keep, priors.shape[1]), dim=1).values[:, -1:]
    return torch.where(priors >= least, priors, 0.0)
