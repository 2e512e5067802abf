"""What a class looks like: a mixture of Gaussians per class. How it is updated belongs to each method."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class GaussianMixture(nn.Module):
    """A mixture of K Gaussians with diagonal covariance for each of C classes, over D features.

    Densities are computed in the buffers' precision also under autocast: bfloat16 loses them. Gradients reach the
    points, not the mixture.

    Attributes:
        means: [C, K, D], zeros until a method sets them.
        variances: [C, K, D], ones. A method with one variance per component, or a fixed one, repeats it over D.
        priors: [C, K], weights of a class's components, 1/K each. A component of prior 0 is switched off; at least
            one of a class must not be.
    """

    means: Tensor
    variances: Tensor
    priors: Tensor

    def __init__(self, num_classes: int, components: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("means", torch.zeros(num_classes, components, dim))
        self.register_buffer("variances", torch.ones(num_classes, components, dim))
        self.register_buffer("priors", torch.full((num_classes, components), 1 / components))

    def log_density(self, x: Tensor) -> Tensor:
        """Log density of each point under each component, priors left out.

        Args:
            x: [N, D], points that all classes look at; or [C, N, D], each class its own points (its queue).

        Returns:
            [N, C, K]; or [C, N, K].
        """
        if x.dim() == 3:
            return _log_density(x, self.means, self.variances)
        return _log_density(x, self.means.flatten(0, 1), self.variances.flatten(0, 1)).unflatten(-1, self.priors.shape)

    def responsibilities(self, x: Tensor) -> Tensor:
        """Posterior of each point's components within a class: [N, C, K] or [C, N, K] as `x` is, sums to 1 over K."""
        return self._joint(x).softmax(-1)

    def class_log_likelihood(self, x: Tensor) -> Tensor:
        """log p(x | class): [N, C] or [C, N] as `x` is."""
        return self._joint(x).logsumexp(-1)

    def _joint(self, x: Tensor) -> Tensor:
        log_priors = self.priors.log()
        return self.log_density(x) + (log_priors[:, None] if x.dim() == 3 else log_priors)


def _log_density(x: Tensor, means: Tensor, variances: Tensor) -> Tensor:
    """[..., N, D] points under [..., M, D] components: [..., N, M], as two matrix products."""
    with torch.autocast(x.device.type, enabled=False):
        # Squares of large numbers cancel badly: put the origin amid the means.
        origin = means.mean(-2, keepdim=True)
        x, means = x.to(means.dtype) - origin, means - origin
        precisions = variances.reciprocal()
        weighted = means * precisions
        squares = (
            x.square() @ precisions.mT - 2 * (x @ weighted.mT) + (means * weighted).sum(-1)[..., None, :]
        ).clamp_min(0)
        log_volume = variances.log().sum(-1)[..., None, :] + means.shape[-1] * math.log(2 * math.pi)
        return -0.5 * (squares + log_volume)
