"""Proxy anchor: its value, its gradients, and that ranks share their samples."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from losses.embedding import ProxyAnchor, proxy_anchor
from tests.support.ranks import on_ranks
from zoo.core.distributed import rank
from zoo.core.errors import RecipeError


def naive(embeddings: Tensor, labels: Tensor, proxies: Tensor, margin: float, scale: float) -> Tensor:
    """By the definition, proxy by proxy."""
    cosine = F.normalize(embeddings) @ F.normalize(proxies).T
    pull, push = [], []
    for number in range(len(proxies)):
        own = labels == number
        if own.any():
            pull.append(torch.log(1 + torch.exp(-scale * (cosine[own, number] - margin)).sum()))
        push.append(torch.log(1 + torch.exp(scale * (cosine[~own, number] + margin)).sum()))
    return torch.stack(pull).mean() + torch.stack(push).mean()


@pytest.mark.parametrize("labels", [[0, 0, 1, 3], [2, 2, 2, 2]])
def test_it_is_its_definition_also_where_a_class_has_all_samples_or_none(labels):
    embeddings = torch.randn(4, 6, generator=torch.Generator().manual_seed(0), requires_grad=True)
    proxies = torch.randn(5, 6, generator=torch.Generator().manual_seed(1), requires_grad=True)
    found = proxy_anchor(embeddings, torch.tensor(labels), proxies, 0.1, 32.0)
    expected = naive(embeddings, torch.tensor(labels), proxies, 0.1, 32.0)
    torch.testing.assert_close(found, expected)
    for one, two in zip(
        torch.autograd.grad(found, (embeddings, proxies)),
        torch.autograd.grad(expected, (embeddings, proxies)),
        strict=True,
    ):
        assert one.isfinite().all()
        torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-4)


def test_proxies_exist_in_training_alone_and_are_the_same_for_a_seed():
    loss, other = ProxyAnchor(dim=4), ProxyAnchor(dim=4)
    assert not loss.state_dict()
    loss.setup(10, 3)
    torch.manual_seed(5)
    other.setup(10, 3)
    assert torch.equal(loss.proxies, other.proxies)
    kept = loss.proxies
    loss.setup(10, 3)
    assert loss.proxies is kept


def test_embeddings_of_another_length_are_told():
    loss = ProxyAnchor(dim=4)
    loss.setup(10, 3)
    with pytest.raises(RecipeError, match="dim 4, the embeddings have 5"):
        loss(torch.randn(2, 5), torch.tensor([0, 1]))


def _on_rank(embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    loss = ProxyAnchor(dim=4)
    loss.setup(10, 3)
    half = len(labels) // 2
    own = slice(rank() * half, (rank() + 1) * half) if torch.distributed.is_initialized() else slice(None)
    part = embeddings[own].clone().requires_grad_()
    value = loss(part, labels[own])
    value.backward()
    return value.detach(), part.grad, loss.proxies.grad


@pytest.mark.slow
def test_two_ranks_share_their_samples():
    embeddings, labels = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 1, 2, 0, 0])
    value, gradient, of_proxies = _on_rank(embeddings, labels)
    found = on_ranks(2, _on_rank, embeddings, labels)
    for ranks_value, _, ranks_proxies in found:
        torch.testing.assert_close(ranks_value, value)
        torch.testing.assert_close(ranks_proxies, of_proxies)
    # Summed over the ranks' uses: DDP's mean brings it back to one process's.
    torch.testing.assert_close(torch.cat([part for _, part, _ in found]), 2 * gradient)
