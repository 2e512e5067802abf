"""Stops training at a loss that is NaN or infinite, without making the host wait for the device at every step.

The flags of step t are computed on the device, gathered over ranks, and read when step t + 1 begins: by then they have
long arrived. The ids of step t are kept until then, and no checkpoint is written in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from zoo.core.distributed import gather_objects, world_size
from zoo.core.errors import NonFiniteLossError


@dataclass
class _Pending:
    slots: list[str]
    flags: Tensor  # bool as float [ranks, slots], on the host
    arrived: torch.cuda.Event | None
    work: dist.Work | None
    step: int
    ids: Sequence[str]


class FiniteWatch:
    """Watches the loss terms of a run."""

    def __init__(self) -> None:
        self._pending: list[_Pending] = []

    def watch(self, terms: Mapping[str, Tensor], step: int, ids: Sequence[str]) -> None:
        """Remember whether each term (any shape) is finite.

        A collective on several ranks, not awaited here; all have the same terms.
        """
        bad = torch.stack([~torch.isfinite(term.detach()).all() for term in terms.values()]).float()[None]
        work, flags = None, bad
        if world_size() > 1:
            flags = bad.new_empty(world_size(), len(terms))
            work = dist.all_gather_into_tensor(flags, bad, async_op=True)
        arrived = None
        if flags.is_cuda:
            if work is not None:
                work.wait()  # orders the streams, does not block the host
                work = None
            host = torch.empty(flags.shape, dtype=flags.dtype, pin_memory=True)
            flags = host.copy_(flags, non_blocking=True)
            arrived = torch.cuda.Event()
            arrived.record()
        self._pending.append(_Pending(list(terms), flags, arrived, work, step, ids))

    def check(self) -> None:
        """Read what was remembered since the last time.

        Raises:
            NonFiniteLossError: naming slots, step and sample ids, on every rank alike.
        """
        pending, self._pending = self._pending, []
        for watched in pending:
            if watched.work is not None:
                watched.work.wait()
            if watched.arrived is not None:
                watched.arrived.synchronize()  # sync: waits for the previous step's forward alone
            if watched.flags.any():
                self._pending = [watched]  # nor is a checkpoint written while the error travels up
                raise _error(watched)


def _error(watched: _Pending) -> NonFiniteLossError:
    ids = gather_objects(list(watched.ids))
    bad_ranks = [rank for rank, row in enumerate(watched.flags.tolist()) if any(row)]
    slots = [slot for slot, bad in zip(watched.slots, watched.flags.any(0).tolist(), strict=True) if bad]
    samples = ", ".join(str(name) for rank in bad_ranks for name in ids[rank])
    return NonFiniteLossError(
        f"The loss {' and '.join(slots)} became NaN or infinite at step {watched.step}, samples {samples}. "
        "Nothing was saved since. Look at these samples, or lower the learning rate."
    )


def check_weights(parameters: Iterable[tuple[str, Tensor]], step: int) -> None:
    """Before weights are saved: the gradient of a finite loss may be NaN or infinite.

    Args:
        parameters: names and values.
        step: how many optimizer steps were done.

    Raises:
        NonFiniteLossError: naming the first parameter that is not finite.
    """
    finite = {name: torch.isfinite(value.detach()).all() for name, value in parameters}
    if finite and not torch.stack([*finite.values()]).all():  # sync: once per save
        first = next(name for name, is_finite in finite.items() if not is_finite)
        raise NonFiniteLossError(
            f"The weights {first} became NaN or infinite by step {step}, though the loss was "
            "finite: its gradient was not. The last checkpoint is from before. Clip gradients, or lower the learning "
            "rate."
        )
