"""How long the training steps of a recipe take, and what the time goes into."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import platform
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping
from lightning.pytorch.profilers import Profiler
from torch import nn

from losses.slots import LossSlots
from zoo.commands import command_line, quiet, run
from zoo.interrupt import Interruptible
from zoo.module import STATE_UPDATE

Record = dict[str, Any]

WARM_UP = 5  # steps
PARTS = ("data wait", "transfer", "front end", "forward", "losses", "backward", "optimizer", "state", "other")
_ACTIONS = {"train_dataloader_next": "data wait", "batch_to_device": "transfer", "training_step": "forward"}
_ACTIONS |= {"optimizer_step": "optimizer", "optimizer_zero_grad": "optimizer", STATE_UPDATE: "state"}
_OPTIONS = {"devices": 1, "num_nodes": 1, "strategy": "auto", "max_epochs": 1_000_000, "max_steps": -1}
_OPTIONS |= {"limit_val_batches": 1, "num_sanity_val_steps": 0}
_OPTIONS |= {"logger": False, "enable_model_summary": False, "enable_progress_bar": False}
_WAIT = "called a synchronizing CUDA operation"  # torch's words


def measure(recipe: str, steps: int) -> Record:
    """Train a recipe for some steps on one device, in a fresh process.

    A step is one training batch: from asking for it until the next is asked for (or validation begins). Of the recipe's
    callbacks those that write checkpoints or stop early are left out; nothing is logged to files.

    Args:
        recipe: a file, or `zoo:NAME`.
        steps: how many are timed, after a warm-up.

    Returns:
        `step_ms` with median, p10 and p90; `parts_ms`, the mean of each of :data:`PARTS` over the middle half of the
        steps, which add up to theirs; samples per second; peak memory; on CUDA the host's waits for the device per
        step; and what it was measured on. "forward" is all of `training_step` that is not in front ends or losses;
        "state" passes over the data and what a method does inside `ZooModule.updating_state`; "other" what lies outside
        of the rest, callbacks among them.

    Raises:
        ZooError: what is wrong with the recipe or its data.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(_measure_quietly, recipe, steps).result()


def _measure_quietly(recipe: str, steps: int) -> Record:
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    quiet.silence()
    return _measure(recipe, steps)


def _measure(recipe: str, steps: int) -> Record:
    with tempfile.TemporaryDirectory() as folder:
        options = {**_OPTIONS, "default_root_dir": folder}
        words = ["fit", "-c", recipe, *(f"--trainer.{key}={value}" for key, value in options.items())]
        asked, saved = run.assemble(command_line.parse(words))
        clock = Clock(steps)
        trainer = _SpeedCLI(clock, asked, saved).trainer
    return {"recipe": recipe, **clock.found(), **_conditions(trainer)}


class _SpeedCLI(run.ZooCLI):
    def __init__(self, clock: Clock, *args: Any) -> None:
        self.clock = clock
        super().__init__("fit", *args, print_config=False)

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        trainer = super().instantiate_trainer(**kwargs, profiler=self.clock)
        left_out = (Checkpoint, EarlyStopping, Interruptible)
        trainer.callbacks = [callback for callback in trainer.callbacks if not isinstance(callback, left_out)]
        trainer.callbacks.append(_Watch(self.clock))
        return trainer


class Clock(Profiler):
    """Lightning's profiler that gives every moment of a step to the innermost part that is going on.

    On a GPU, where work goes on after a call has returned, waiting at each part's end would change what is measured. So
    several sets of steps are run: for the time of whole steps, for their parts, and on CUDA to count waits.

    Args:
        steps: timed steps of each set.
    """

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps, self.seen = steps, 0
        self.device = torch.device("cpu")  # until training starts
        self.whole: list[tuple[float, int]] = []  # seconds and samples
        self.split: list[dict[str, float]] = []
        self.waits = 0
        self._stack: list[tuple[str, str]] = []
        self._open: dict[str, float] | None = None
        self._samples = 0
        self._began = self._mark = 0.0

    @property
    def phase(self) -> str:
        """What the running step is for: "warm-up", "whole", "parts", "waits" or "done"."""
        phases = {"cpu": ("whole",), "cuda": ("whole", "parts", "waits")}.get(self.device.type, ("whole", "parts"))
        number = (self.seen - WARM_UP) // self.steps
        return "warm-up" if number < 0 else phases[number] if number < len(phases) else "done"

    # -- Lightning's ------------------------------------------------------------------------------------------------

    def start(self, action_name: str) -> None:
        name = action_name.rpartition(".")[2]
        if name == "train_dataloader_next" or name.startswith("on_validation") or name == "on_train_epoch_end":
            self._close()
        if name == "train_dataloader_next":
            if self.phase == "waits" and torch.cuda.get_sync_debug_mode() == 0:
                self._count_waits()
            self._began = self._mark = self._now()
            self._open, self._stack, self._samples = dict.fromkeys(PARTS, 0.0), [], 0
        self.enter(_ACTIONS.get(name), action_name)

    def stop(self, action_name: str) -> None:
        self.leave(action_name)

    # -- parts ------------------------------------------------------------------------------------------------------

    def enter(self, part: str | None, name: str) -> None:
        """From now on, time belongs to `part`; `None` leaves it with the part around."""
        if self._open is not None:
            self._tick()
            self._stack.append((name, part or self._part()))

    def leave(self, name: str) -> None:
        if self._open is not None and self._stack and self._stack[-1][0] == name:
            self._tick()
            self._stack.pop()

    def note_samples(self, count: int) -> None:
        self._samples = count

    def _part(self) -> str:
        return self._stack[-1][1] if self._stack else "other"

    def _tick(self) -> None:
        now = self._now() if self.phase == "parts" else time.perf_counter()
        self._open[self._part()] += now - self._mark
        self._mark = now

    def _now(self) -> float:
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)
        return time.perf_counter()

    def _close(self) -> None:
        """The step is over, if one was begun; one without samples was the question for a batch after the last."""
        if self._open is None:
            return
        if self._samples:
            end = self._now()
            self._open["other"] += end - self._mark
            if self.phase == "whole":
                self.whole.append((end - self._began, self._samples))
            if self.phase == "parts" or (self.phase == "whole" and self.device.type == "cpu"):
                self.split.append(self._open)
            self.seen += 1
        self._open = None

    def _count_waits(self) -> None:
        show = warnings.showwarning

        def count(message: Any, *args: Any, **kwargs: Any) -> None:
            if not str(message).startswith(_WAIT):
                show(message, *args, **kwargs)
            elif self._open is not None:
                self.waits += 1

        warnings.showwarning = count
        warnings.filterwarnings("always", message=_WAIT)
        torch.cuda.set_sync_debug_mode("warn")

    def found(self) -> Record:
        seconds = sorted(step for step, _ in self.whole)
        tenths = statistics.quantiles(seconds, n=10, method="inclusive")
        middle = sorted(self.split, key=lambda parts: sum(parts.values()))
        quarter = len(middle) // 4
        middle = middle[quarter : len(middle) - quarter]
        return {
            "steps": len(seconds),
            "step_ms": {"median": _ms(statistics.median(seconds)), "p10": _ms(tenths[0]), "p90": _ms(tenths[-1])},
            "parts_ms": {part: _ms(statistics.fmean(parts[part] for parts in middle)) for part in PARTS},
            "samples_per_second": round(sum(samples for _, samples in self.whole) / sum(seconds), 1),
            "host_waits_per_step": self.waits / self.steps if self.device.type == "cuda" else None,
        }


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 4)


class _Watch(L.Callback):
    """Tells the clock what Lightning's profiler does not see, and ends the run."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.clock.device = trainer.strategy.root_device
        for name, module in pl_module.named_modules():
            if name.rpartition(".")[2] == "front_end":
                self._hook(module, "front end")
            elif isinstance(module, LossSlots):
                for loss in module.children():
                    self._hook(loss, "losses")

    def _hook(self, module: nn.Module, part: str) -> None:
        module.register_forward_pre_hook(lambda *args: self.clock.enter(part, part))
        module.register_forward_hook(lambda *args: self.clock.leave(part), always_call=True)

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, index: int) -> None:
        self.clock.note_samples(len(batch["id"]))

    def on_before_backward(self, *args: Any) -> None:
        self.clock.enter("backward", "backward")

    def on_after_backward(self, *args: Any) -> None:
        self.clock.leave("backward")

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        trainer.should_stop = self.clock.phase == "done"


def _conditions(trainer: L.Trainer) -> Record:
    device = trainer.strategy.root_device
    packages = ("multimodal-zoo", "torch", "lightning")
    return {
        "memory_mb": dict(_memory(device)),
        "batch_size": trainer.datamodule.batch_size,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device} {platform.machine()}",
        "precision": trainer.precision,
        "threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in packages} | {"python": platform.python_version()},
    }


def _memory(device: torch.device) -> Iterator[tuple[str, float]]:
    """Peaks of this process."""
    if device.type == "cuda":
        yield "allocated", round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
        yield "reserved", round(torch.cuda.max_memory_reserved(device) / 2**20, 1)
    with contextlib.suppress(ImportError):  # Windows
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        yield "resident", round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)
