"""Training runs in processes of their own: killed at a chosen point, resumed, on one rank or two."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as L
import torch
from lightning.pytorch.strategies import DDPStrategy

from zoo.callbacks import Checkpoints

PATIENCE = 240  # seconds

KillPoint = Literal["mid-epoch", "last batch", "epoch end", "inside a pass"]
Build = Callable[[Path], tuple[L.LightningModule, L.LightningDataModule]]


@dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
        build: importable function: data folder to (model, data module).
        folder: where checkpoints go; data lie in its sibling `data`.
        kill: where the process kills itself, in the second epoch.
    """

    build: Build
    folder: Path
    epochs: int = 3
    workers: int = 0
    kill: KillPoint | None = None
    resume: bool = False
    ranks: int = 1
    every_n_steps: int | None = 1
    monitor: str = "val/accuracy"
    find_unused: bool = False
    probe: Callable[[L.Trainer, L.LightningModule], dict[str, Any]] | None = None

    @property
    def last(self) -> Path:
        return self.folder / "checkpoints" / "last.ckpt"


class Killer(L.Callback):
    """SIGKILL to its own process: nothing can be tidied up."""

    def __init__(self, point: KillPoint) -> None:
        self.point = point

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.point == "inside a pass":
            calls: list[int] = []
            pl_module.data_pass = self._dying(pl_module.data_pass, calls)
            pl_module.meta_pass = self._dying(pl_module.meta_pass, calls)

    @staticmethod
    def _dying(look: Callable, calls: list[int]) -> Callable:
        """`look`, killed by the second batch of the second call."""

        def killed(function: Callable, *args: Any, **kwargs: Any) -> Any:
            calls.append(0)
            batches = []

            def second_batch_kills(batch: Any) -> Any:
                batches.append(0)
                if len(calls) == 2 and len(batches) == 2:
                    die()
                return function(batch)

            return look(second_batch_kills, *args, **kwargs)

        return killed

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self.point == "mid-epoch" and trainer.current_epoch == 1 and batch_idx == trainer.num_training_batches // 2:
            die()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        if self.point == "last batch" and trainer.current_epoch == 1 and trainer.is_last_batch:
            die()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.point == "epoch end" and trainer.current_epoch == 2:
            die()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _train(run: Run, rank: int, port: int, results: Any) -> None:
    try:
        torch.set_num_threads(1)
        multiprocessing.set_start_method("fork", force=True)  # else reading workers inherit the slower forkserver
        strategy = "auto"
        if run.ranks > 1:
            os.environ |= {
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "WORLD_SIZE": str(run.ranks),
                "NODE_RANK": "0",
                "LOCAL_RANK": str(rank),
            }
            strategy = DDPStrategy(process_group_backend="gloo", find_unused_parameters=run.find_unused)
        L.seed_everything(7, verbose=False)
        model, data = run.build(run.folder.parent / "data")
        data.num_workers = run.workers
        trainer = L.Trainer(
            accelerator="cpu",
            devices=run.ranks,
            strategy=strategy,
            max_epochs=run.epochs,
            logger=False,
            default_root_dir=run.folder,
            use_distributed_sampler=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            callbacks=[
                *([Killer(run.kill)] if run.kill else []),
                Checkpoints(monitor=run.monitor, every_n_steps=run.every_n_steps),
            ],
        )
        trainer.fit(model, data, ckpt_path=run.last if run.resume else None, weights_only=run.resume or None)
        found = run.probe(trainer, model) if run.probe else {}
        results.put((rank, found | {"metrics": {k: float(v) for k, v in trainer.callback_metrics.items()}}))
    except BaseException:
        results.put((rank, traceback.format_exc()))
        raise


def train(run: Run) -> list[dict[str, Any]]:
    """Run it; one dictionary per rank: the final metrics and what the probe found. Empty if it killed itself."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lightning.pytorch", "torchmetrics.classification", "zoo.module"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    results = context.Queue()
    ranks = [context.Process(target=_train, args=(run, rank, port, results)) for rank in range(run.ranks)]
    for process in ranks:
        process.start()
    # Results are fetched before the processes are joined: one that is not fetched keeps its process alive.
    found = {} if run.kill else dict(results.get(timeout=PATIENCE) for _ in ranks)
    for process in ranks:
        process.join(timeout=PATIENCE)
        assert not process.is_alive(), "a rank hangs"
    if run.kill:
        assert [process.exitcode for process in ranks] == [-signal.SIGKILL] * run.ranks, "the run was not killed"
        return []
    for value in found.values():
        assert isinstance(value, dict), value
    return [found[rank] for rank in range(run.ranks)]


def state_of(checkpoint: Path) -> dict[str, Any]:
    """What two runs must agree on to the last bit: weights, buffers, optimizers, counters."""
    loaded = torch.load(checkpoint, weights_only=True)
    kept = {key: loaded[key] for key in ("state_dict", "optimizer_states", "zoo", "epoch", "global_step")}
    return kept


def differences(a: Any, b: Any, path: str = "") -> list[str]:
    """Paths at which two nested states differ, tensors compared by torch.equal."""
    if isinstance(a, torch.Tensor):
        return [] if torch.equal(a, b) else [path]
    if isinstance(a, dict):
        if a.keys() != b.keys():
            return [f"{path}: keys {a.keys() ^ b.keys()}"]
        return [line for key in a for line in differences(a[key], b[key], f"{path}/{key}")]
    if isinstance(a, list | tuple):
        if len(a) != len(b):
            return [f"{path}: lengths {len(a)} and {len(b)}"]
        return [line for i, (x, y) in enumerate(zip(a, b, strict=True)) for line in differences(x, y, f"{path}/{i}")]
    return [] if a == b else [f"{path}: {a} and {b}"]


def uncut_and_resumed(run: Run, kill: KillPoint, workers: int) -> list[str]:
    """Differences between a run that was not cut and one that was killed and resumed; both must end."""
    whole = replace(run, folder=run.folder / "whole", workers=0)
    cut = replace(run, folder=run.folder / f"{kill} {workers}".replace(" ", "_"), workers=workers)
    if not whole.last.exists():
        train(whole)
    train(replace(cut, kill=kill))
    assert cut.last.exists(), "killed before its first checkpoint"
    assert (
        torch.load(cut.last, weights_only=True)["global_step"]
        < torch.load(whole.last, weights_only=True)["global_step"]
    )
    train(replace(cut, resume=True))
    return differences(state_of(whole.last), state_of(cut.last))
