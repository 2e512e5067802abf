"""Callbacks that recipes name."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as L
from lightning.pytorch.callbacks import Checkpoint, RichProgressBar
from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from zoo.core.errors import CheckpointError, RecipeError
from zoo.core.names import did_you_mean


class LossBar(RichProgressBar):
    """Lightning's bar with the training loss, which is fetched from the device only when the bar is redrawn."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=10)
        self._loss = ""

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        if trainer.training and trainer.fit_loop.batch_idx % self.refresh_rate == 0:
            loss = trainer.callback_metrics.get("train/loss")
            self._loss = "" if loss is None else f"{float(loss):.4f}"  # sync: every tenth batch
        shown = {"train/loss": self._loss} if self._loss else {}
        return {**super().get_metrics(trainer, pl_module), **shown}


class Checkpoints(Checkpoint):
    """Keeps `last.ckpt` and, with a monitor, `best.ckpt` in the run's folder under `checkpoints/`.

    They are written when an epoch and its validation have ended, and `last.ckpt` also every so many optimizer steps,
    always between two optimizer steps: never while gradients are accumulated. A file is written whole under another
    name and then renamed, so that a run killed while saving still has the previous one.

    Lightning's ModelCheckpoint may also write after an epoch's last batch but before its validation; a run resumed from
    there would skip that validation.

    Args:
        monitor: metric that says which checkpoint is best, such as "val/accuracy"; `None` keeps the last one only.
        mode: which end of the monitor is best.
        every_n_steps: write `last.ckpt` also after every so many optimizer steps.
    """

    def __init__(
        self, monitor: str | None = None, mode: Literal["max", "min"] = "max", every_n_steps: int | None = None
    ) -> None:
        self.monitor, self.mode, self.every_n_steps = monitor, mode, every_n_steps
        self.best_score: float | None = None
        self.folder: Path | None = None
        self.last_step: int | None = None  # optimizer steps in the last.ckpt that this run has written
        self._inherited: Path | None = None

    @property
    def best_model_path(self) -> str:
        """Where Lightning looks for `ckpt_path="best"`; empty before there is one."""
        return str(self.folder / "best.ckpt") if self.folder and self.best_score is not None else ""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        run = trainer.log_dir or trainer.default_root_dir
        self.folder = Path(trainer.strategy.broadcast(str(run))) / "checkpoints"

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        if not self.every_n_steps or trainer.is_last_batch or not pl_module.at_step_boundary():
            return
        steps = pl_module.steps_done
        if steps % self.every_n_steps == 0 and steps != self.last_step:
            self.save_last(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.fast_dev_run:
            return
        if self._is_best(trainer):
            self._save(trainer, "best.ckpt")  # first: a run killed in between repeats the epoch and finds it again
        self.save_last(trainer)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """A resumed run in a new folder takes the best checkpoint so far with it."""
        if self._inherited is None or self._inherited == self.folder / "best.ckpt":
            return
        if not self._inherited.is_file():
            rank_zero_warn(f"The best checkpoint so far is no longer at {self._inherited}; this run starts without.")
            self.best_score = None
        elif trainer.is_global_zero:
            self.folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self._inherited, self.folder / "best.ckpt")

    def on_sanity_check_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """A mistyped monitor is told before the first epoch, not after it."""
        if self.monitor is not None and self.monitor.startswith("val/"):
            self._check_monitor(trainer)

    def _check_monitor(self, trainer: L.Trainer) -> None:
        if self.monitor not in trainer.callback_metrics:
            raise RecipeError(
                f"The monitor {self.monitor!r} of Checkpoints is not logged. "
                + did_you_mean(self.monitor, trainer.callback_metrics)
            )

    def _is_best(self, trainer: L.Trainer) -> bool:
        if self.monitor is None:
            return False
        validated = any(name.startswith("val/") for name in trainer.callback_metrics)
        if self.monitor not in trainer.callback_metrics and trainer.enable_validation and not validated:
            return False  # no validation yet (check_val_every_n_epoch)
        self._check_monitor(trainer)
        score = float(trainer.callback_metrics[self.monitor])  # sync: once per epoch
        sign = 1 if self.mode == "max" else -1
        better = not math.isnan(score) and (self.best_score is None or sign * score > sign * self.best_score)
        # Ranks may hold other values (a training loss): one that saved alone would wait for the others for ever.
        better, score = trainer.strategy.broadcast((better, score))
        if better:
            self.best_score = score
        return better

    def save_last(self, trainer: L.Trainer) -> None:
        """Write `last.ckpt`. Only between two optimizer steps; on all ranks."""
        self._save(trainer, "last.ckpt")
        self.last_step = trainer.lightning_module.steps_done

    def _save(self, trainer: L.Trainer, name: str) -> None:
        unfinished = self.folder / f".{name}.unfinished"
        try:
            trainer.save_checkpoint(unfinished, weights_only=False)
            if trainer.is_global_zero:
                os.replace(unfinished, self.folder / name)
        except OSError as error:
            with contextlib.suppress(OSError):
                unfinished.unlink(missing_ok=True)
            raise CheckpointError(
                f"{self.folder / name} could not be written: {error.strerror or error}. "
                "What was saved before is whole: mend that and resume."
            ) from error
        trainer.strategy.barrier("checkpoint renamed")

    def state_dict(self) -> dict[str, Any]:
        return {
            "monitor": self.monitor,
            "mode": self.mode,
            "best_score": self.best_score,
            "best_model_path": os.path.abspath(self.best_model_path) if self.best_model_path else "",
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if (state_dict["monitor"], state_dict["mode"]) == (self.monitor, self.mode):
            self.best_score = state_dict["best_score"]
            self._inherited = Path(state_dict["best_model_path"]) if state_dict["best_model_path"] else None
