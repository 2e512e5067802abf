"""Gathers that are the identity on one process, so that methods are written once.

Every function is a collective: all ranks must call it, in the same order. Rank order is the order of the result.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.nn.functional import all_gather as _all_gather_with_grad
from torch.distributed.nn.functional import all_reduce as _all_reduce_with_grad


def world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def sum_over_ranks(x: Tensor) -> Tensor:
    """Sum of `x` over ranks, without gradient."""
    if world_size() == 1:
        return x.detach()
    total = x.detach().clone()
    dist.all_reduce(total)
    return total


def sum_over_ranks_with_grad(x: Tensor) -> Tensor:
    """Sum of `x` over ranks; the gradient of every rank's use reaches every rank's `x`."""
    return x if world_size() == 1 else _all_reduce_with_grad(x)


def mean_over_ranks(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Global mean of a quantity whose count differs between ranks, with the gradient that one process would give.

    Args:
        numerator: this rank's sum, any shape.
        denominator: this rank's count, broadcastable to it.

    Returns:
        Sum of numerators over sum of denominators. DDP averages gradients over ranks; the returned value's gradient is
        scaled by the world size to undo that, its value is not.
    """
    if world_size() == 1:
        return numerator / denominator
    total = sum_over_ranks(numerator)
    count = sum_over_ranks(denominator.to(numerator.dtype))
    local = numerator * (world_size() / count)
    # Value of the global mean, gradient of the local share.
    return local + (total / count - local).detach()


def _row_counts(rows: Tensor) -> list[int]:
    counts = torch.zeros(world_size(), dtype=torch.long, device=rows.device)
    counts[rank()] = rows.shape[0]
    dist.all_reduce(counts)
    return counts.tolist()


def _pad_rows(rows: Tensor, to: int) -> Tensor:
    if rows.shape[0] == to:
        return rows.contiguous()
    padding = rows.new_zeros(to - rows.shape[0], *rows.shape[1:])
    return torch.cat([rows, padding])


def gather_rows(rows: Tensor) -> Tensor:
    """Concatenate `rows` [N_rank, …] of all ranks in rank order, without gradient; the N may differ.

    One host synchronisation for the counts.
    """
    if world_size() == 1:
        return rows.detach()
    counts = _row_counts(rows)
    padded = _pad_rows(rows.detach(), max(counts))
    gathered = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(gathered, padded)
    return torch.cat([block[:n] for block, n in zip(gathered, counts, strict=True)])


def gather_rows_with_grad(rows: Tensor) -> Tensor:
    """Like :func:`gather_rows`, but gradients of all ranks' uses flow back to each row (summed over ranks)."""
    if world_size() == 1:
        return rows
    counts = _row_counts(rows)
    gathered = _all_gather_with_grad(_pad_rows(rows, max(counts)))
    return torch.cat([block[:n] for block, n in zip(gathered, counts, strict=True)])


def gather_objects(value: object) -> list[object]:
    """One small picklable object per rank, in rank order."""
    if world_size() == 1:
        return [value]
    values: list[object] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values
