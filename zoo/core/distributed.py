"""Gathers that are the identity on one process, so that methods are written once.

Every function is a collective: all ranks must call it, in the same order. Rank order is the order of the result.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function


def world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def sum_over_ranks(x: Tensor) -> Tensor:
    """Sum of `x` over ranks, without gradient; bool is counted, as int64."""
    x = x.detach().long() if x.dtype == torch.bool else x.detach()
    if world_size() == 1:
        return x
    total = x.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total


class _Sum(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return sum_over_ranks(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return sum_over_ranks(gradient)


def sum_over_ranks_with_grad(x: Tensor) -> Tensor:
    """Sum of `x` over ranks; the gradient of every rank's use reaches every rank's `x`."""
    return x if world_size() == 1 else _Sum.apply(x)


def mean_over_ranks(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Global mean of a quantity whose count differs between ranks, with the gradient that one process would give.

    Args:
        numerator: this rank's sum, any shape.
        denominator: this rank's count (not negative, any dtype), broadcastable to it; may be 0.

    Returns:
        Sum of numerators over sum of denominators; where these are 0 on all ranks, the sum of numerators. DDP averages
        gradients over ranks; the returned value's gradient is scaled by the world size to undo that, its value is not.
    """
    count = sum_over_ranks(denominator)
    count = torch.where(count > 0, count, 1)
    if world_size() == 1:
        return numerator / count
    total = sum_over_ranks(numerator)
    local = numerator * world_size() / count
    # Value of the global mean, gradient of the local share.
    return local + (total / count - local).detach()


def _row_counts(rows: Tensor) -> list[int]:
    counts = torch.zeros(world_size(), dtype=torch.long, device=rows.device)
    counts[rank()] = rows.shape[0]
    dist.all_reduce(counts)
    return counts.tolist()  # sync: shapes are known to the host


def _gathered(rows: Tensor, counts: list[int]) -> Tensor:
    padding = rows.new_zeros(max(counts) - rows.shape[0], *rows.shape[1:])
    padded = torch.cat([rows, padding]).contiguous()
    blocks = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(blocks, padded)
    return torch.cat([block[:n] for block, n in zip(blocks, counts, strict=True)])


def gather_rows(rows: Tensor) -> Tensor:
    """Concatenate `rows` [N_rank, …] of all ranks in rank order, without gradient; the N may differ, also be 0.

    One host synchronisation for the counts.
    """
    return rows.detach() if world_size() == 1 else _gathered(rows.detach(), _row_counts(rows))


class _GatherRows(Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        counts = _row_counts(rows)
        ctx.own = slice(sum(counts[: rank()]), sum(counts[: rank() + 1]))
        return _gathered(rows, counts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return sum_over_ranks(gradient)[ctx.own]


def gather_rows_with_grad(rows: Tensor) -> Tensor:
    """Like :func:`gather_rows`, but gradients of all ranks' uses flow back to each row (summed over ranks)."""
    return rows if world_size() == 1 else _GatherRows.apply(rows)


def gather_objects(value: object) -> list[object]:
    """One small picklable object per rank, in rank order."""
    if world_size() == 1:
        return [value]
    values: list[object] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values
