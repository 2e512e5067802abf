"""Losses of kind `embedding`: (embeddings [B, D], labels int64 [B])."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from losses.registry import register
from zoo.core.distributed import gather_rows, gather_rows_with_grad
from zoo.core.errors import RecipeError
from zoo.core.randomness import global_seed, isolated


@register("proxy_anchor", kind="embedding")
class ProxyAnchor(nn.Module):
    """Pull embeddings to a learned proxy of their class, push them from the others' (Kim et al., CVPR 2020).

    The proxies are trained with the network; they exist from :meth:`setup` on, so in training alone. Each proxy weighs
    its samples against each other: those of all ranks, to which gradients flow.

    Args:
        dim: of the embeddings.
        margin: cosine that positives must exceed and negatives, negated, stay below.
        scale: sharpness, called alpha in the paper of the loss and beta in MGProto's code.
    """

    proxies: nn.Parameter | None

    def __init__(self, dim: int = 32, margin: float = 0.1, scale: float = 32.0) -> None:
        super().__init__()
        self.dim, self.margin, self.scale = dim, margin, scale
        self.register_parameter("proxies", None)

    def setup(self, num_samples: int, num_classes: int) -> None:
        """Draw a proxy per class: Kaiming normal, fan out."""
        if self.proxies is None or len(self.proxies) != num_classes:
            with isolated(global_seed(), "proxies"):
                self.proxies = nn.Parameter(torch.randn(num_classes, self.dim) * math.sqrt(2 / num_classes))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Scalar: mean over the batch's classes of the pull plus mean over all classes of the push.

        Raises:
            RecipeError: if the embeddings are not of length `dim`.
        """
        if embeddings.shape[1] != self.dim:
            raise RecipeError(f"The loss proxy_anchor has dim {self.dim}, the embeddings have {embeddings.shape[1]}.")
        return proxy_anchor(
            gather_rows_with_grad(embeddings), gather_rows(labels), self.proxies, self.margin, self.scale
        )


def proxy_anchor(embeddings: Tensor, labels: Tensor, proxies: Tensor, margin: float, scale: float) -> Tensor:
    """The loss itself: float [B, D], int64 [B], float [C, D] to a scalar, in float32."""
    with torch.autocast(embeddings.device.type, enabled=False):
        cosine = _unit(embeddings.float()) @ _unit(proxies.float()).T
        positive = F.one_hot(labels, len(proxies)).bool()
        pull = _log_one_plus_sum(-scale * (cosine - margin), positive)
        push = _log_one_plus_sum(scale * (cosine + margin), ~positive)
        return pull.sum() / positive.any(0).sum() + push.mean()


def _unit(x: Tensor) -> Tensor:
    return x * (x.square().sum(1, keepdim=True) + 1e-12).rsqrt()


def _log_one_plus_sum(exponents: Tensor, mask: Tensor) -> Tensor:
    """log(1 + sum over the masked rows of exp): [B, C] to [C]; 0 where there is none."""
    kept = exponents.masked_fill(~mask, -torch.inf)
    return torch.cat([torch.zeros_like(kept[:1]), kept]).logsumexp(0)
