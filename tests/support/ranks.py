"""A function called on several gloo ranks, each a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy

from zoo.core.distributed import rank, world_size

TIMEOUT = 60  # seconds
PRELOAD = ["lightning.pytorch", "torchmetrics.classification", "zoo.module"]  # as tests.support.runs, its server serves


def _call(function: Callable[..., Any], number: int, ranks: int, folder: str, args: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=number, world_size=ranks)
    try:
        found = {"value": function(*args)}
    except BaseException:
        found = {"error": traceback.format_exc()}
    torch.save(found, f"{folder}/{number}.pt")
    if "value" in found:  # else the others may wait in a collective
        dist.destroy_process_group()


def ddp() -> dict[str, Any]:
    """Arguments that make a Trainer use the ranks of :func:`on_ranks`."""
    os.environ |= {"WORLD_SIZE": str(world_size()), "NODE_RANK": "0", "LOCAL_RANK": str(rank())}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}  # asked for, not used: the ranks have met
    return {"strategy": DDPStrategy(process_group_backend="gloo"), "devices": world_size()}


def on_ranks(ranks: int, function: Callable[..., Any], *args: Any) -> list[Any]:
    """What an importable `function` returns on each rank: tensors, numbers, strings and containers of them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    with tempfile.TemporaryDirectory() as folder:
        processes = [
            context.Process(target=_call, args=(function, number, ranks, folder, args)) for number in range(ranks)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(TIMEOUT)
        hanging = [number for number, process in enumerate(processes) if process.is_alive()]
        for number in hanging:
            processes[number].kill()
        found = {path.stem: torch.load(path, weights_only=True) for path in Path(folder).glob("*.pt")}
    errors = [f"rank {number}: {value['error']}" for number, value in found.items() if "error" in value]
    assert not errors, "\n".join(errors)
    assert not hanging, f"ranks {hanging} hang"
    return [found[str(number)]["value"] for number in range(ranks)]
