"""A function called on several gloo ranks, each a process of its own."""

from __future__ import annotations

import multiprocessing
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

TIMEOUT = 60  # seconds
PRELOAD = ["lightning.pytorch", "torchmetrics.classification", "zoo.module"]  # as tests.support.runs, its server serves


def _call(function: Callable[..., Any], rank: int, ranks: int, folder: str, args: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=ranks)
    try:
        found = {"value": function(*args)}
    except BaseException:
        found = {"error": traceback.format_exc()}
    torch.save(found, f"{folder}/{rank}.pt")
    if "value" in found:  # else the others may wait in a collective
        dist.destroy_process_group()


def on_ranks(ranks: int, function: Callable[..., Any], *args: Any) -> list[Any]:
    """What an importable `function` returns on each rank: tensors, numbers, strings and containers of them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    with tempfile.TemporaryDirectory() as folder:
        processes = [context.Process(target=_call, args=(function, rank, ranks, folder, args)) for rank in range(ranks)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(TIMEOUT)
        hanging = [rank for rank, process in enumerate(processes) if process.is_alive()]
        for rank in hanging:
            processes[rank].kill()
        found = {path.stem: torch.load(path, weights_only=True) for path in Path(folder).glob("*.pt")}
    errors = [f"rank {rank}: {value['error']}" for rank, value in found.items() if "error" in value]
    assert not errors, "\n".join(errors)
    assert not hanging, f"ranks {hanging} hang"
    return [found[str(rank)]["value"] for rank in range(ranks)]
