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

    def log_density(self, x: Tensor, classes: Tensor | None = None) -> Tensor:
        """Log density of each point under each component, priors left out.

        Args:
            x: [N, D], points that all classes look at; or [C, N, D], each class its own points (its queue).
            classes: int64 [M], which classes the M sets of points of `x` [M, N, D] belong to; `None` is all.

        Returns:
            [N, C, K]; or [C, N, K]; or [M, N, K].
        """
        if x.dim() == 3:
            means, variances, _ = self._of(classes)
            return _log_density(x, means, variances)
        return _log_density(x, self.means.flatten(0, 1), self.variances.flatten(0, 1)).unflatten(-1, self.priors.shape)

    def log_joint(self, x: Tensor, classes: Tensor | None = None) -> Tensor:
        """Log density of point and component given the class, so with priors: shapes as of :meth:`log_density`.

        Its softmax over K are responsibilities, its logsumexp is log p(x | class).
        """
        log_priors = self._of(classes)[2].log()
        return self.log_density(x, classes) + (log_priors[:, None] if x.dim() == 3 else log_priors)

    def responsibilities(self, x: Tensor, classes: Tensor | None = None) -> Tensor:
        """Posterior of each point's components within a class, sums to 1 over K: shapes as of :meth:`log_density`."""
        return self.log_joint(x, classes).softmax(-1)

    def class_log_likelihood(self, x: Tensor, classes: Tensor | None = None) -> Tensor:
        """log p(x | class): shapes as of :meth:`log_density` without K."""
        return self.log_joint(x, classes).logsumexp(-1)

    def _of(self, classes: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        parts = (self.means, self.variances, self.priors)
        return parts if classes is None else tuple(part[classes] for part in parts)


def _log_density(x: Tensor, means: Tensor, variances: Tensor) -> Tensor:
    """[..., N, D] points under [..., M, D] components: [..., N, M], as one matrix product.

    The exponent is a sum over D of x² and x, each times a number of the component, plus a constant of it.
    """
    with torch.autocast(x.device.type, enabled=False):
        # Squares of large numbers cancel badly: put the origin amid the means.
        origin = means.mean(-2, keepdim=True)
        x, means = x.to(means.dtype) - origin, means - origin
        precisions = variances.reciprocal()
        weighted = means * precisions
        peak = -0.5 * (variances.log().sum(-1) + means.shape[-1] * math.log(2 * math.pi))
        constant = (peak - 0.5 * (means * weighted).sum(-1))[..., None, :]
        points, components = torch.cat([x.square(), x], -1), torch.cat([-0.5 * precisions, weighted], -1).mT
        found = torch.baddbmm(constant, points, components) if x.dim() == 3 else constant.addmm(points, components)
        return torch.minimum(found, peak[..., None, :])  # which rounding can lift it above
