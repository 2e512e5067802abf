"""ZooModule: what every method's LightningModule shares, and nothing of any one method."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import lightning.pytorch as L
import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.optim import Optimizer

from losses.slots import LossSlots, Slot
from zoo.core.distributed import gather_rows, rank, world_size
from zoo.core.randomness import Key, global_seed, isolated, seed_globals
from zoo.finite import FiniteWatch, check_weights
from zoo.passes import Pass, evaluating
from zoo.stages import Stage, Stages

Batch = dict[str, Any]

STATE_UPDATE = "update_state"  # as Lightning's profilers list it


class ZooModule(L.LightningModule):
    """Base of all methods.

    It gives a method its loss slots (:attr:`losses`, :meth:`total`), training stages (:attr:`stage`), looks at the
    whole training set between steps (:meth:`add_pass`, :meth:`data_pass`), randomness keyed by (seed, step)
    (:meth:`draw_key`), several optimizers with accumulation (:meth:`manual_step`), and stops at a loss that is not
    finite. Everything of it resumes exactly.

    Args:
        losses: a recipe's changes to the slots; see :mod:`losses.slots`.
        stages: a recipe's training stages; see :mod:`zoo.stages`.
    """

    task: ClassVar[str]
    """The batch it takes: a key of :data:`datamodules.batch.TASKS`."""
    slots: ClassVar[Mapping[str, Slot]] = {}
    stage_options: ClassVar[Mapping[str, Any]] = {}
    """What a stage of the recipe may set, with defaults."""
    training_memory: ClassVar[tuple[str, ...]] = ("losses.",)
    """Prefixes of state that is as long as the training set: made when training begins, no part of the weights."""

    def __init__(
        self,
        losses: dict[str, Any] | None = None,
        stages: list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__()
        self.losses = LossSlots(self.slots, losses)
        self.stages = Stages(stages, self.stage_options)
        self._finite = FiniteWatch()
        self._passes: dict[str, Pass] = {}
        self.epochs_done = 0
        """Epochs finished when passes were last looked at; within a pass, the number of the epoch to come."""
        self._manual_steps = 0
        self._accumulate = 1
        self._clip: float | None = None

    # -- where training stands --------------------------------------------------------------------------------------

    @property
    def batches_begun(self) -> int:
        """Training batches begun so far over all epochs, without the one that runs."""
        return max(self.trainer.fit_loop.total_batch_idx, 0) if self._trainer is not None else 0

    @property
    def steps_done(self) -> int:
        """Optimizer steps done so far; with several optimizers, one step of each counts as one."""
        if not self.automatic_optimization:
            return self._manual_steps
        return self.trainer.global_step if self._trainer is not None else 0

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of an epoch, for schedules.

        Lightning's `estimated_stepping_batches` and `num_training_batches` begin to read the data before a resumed
        run's place in them is known, so that the epoch would start again.
        """
        trainer = self.trainer
        batches, limit = len(trainer.datamodule.train_dataloader()), trainer.limit_train_batches
        batches = int(batches * limit) if isinstance(limit, float) else min(batches, limit)
        return math.ceil(batches / trainer.accumulate_grad_batches)

    @property
    def steps_planned(self) -> int | None:
        """Optimizer steps of the whole run, for schedules; `None` if it has no end."""
        ends = [self.trainer.max_steps] if self.trainer.max_steps > -1 else []
        if (epochs := self.trainer.max_epochs or -1) > -1:
            ends.append(self.steps_per_epoch * epochs)
        return min(ends, default=None)

    @property
    def stage(self) -> Stage:
        """The training stage that holds now."""
        return self.stages.at(self.current_epoch, self.steps_done)

    def draw_key(self, name: str) -> tuple[Key, ...]:
        """Key of a draw that belongs to this training batch: equal on all ranks, and after a resume.

        Use: `python_generator(*self.draw_key("availability"))`; see :mod:`zoo.core.randomness`.
        """
        return (global_seed(), name, self.batches_begun)

    # -- losses -----------------------------------------------------------------------------------------------------

    def total(self, terms: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Weigh and sum loss terms, log each under its slot's name, and watch that they stay finite.

        Args:
            terms: scalar per slot; the same slots on all ranks.
            batch: the batch they were computed on; its `id` is named if a term is not finite.

        Returns:
            Scalar to differentiate.
        """
        self._finite.watch(terms, self.steps_done, batch["id"])
        total = sum(
            self.losses.weights[slot].at(self.steps_done, self.current_epoch) * term for slot, term in terms.items()
        )
        size = len(batch["id"])
        self.log_dict({f"train/loss/{slot}": term.detach() for slot, term in terms.items()}, batch_size=size)
        self.log("train/loss", total.detach(), batch_size=size)
        return total

    # -- looks at a whole split between steps -----------------------------------------------------------------------

    def add_pass(
        self,
        name: str,
        run: Callable[[], None],
        *,
        every_steps: int | Callable[[], int] | None = None,
        every_epochs: int | None = None,
        at_epochs: Sequence[int] | None = None,
        first: int | None = None,
    ) -> None:
        """Call `run` after every so many optimizer steps or epochs, from the `first` on, or when so many epochs are
        done (`at_epochs`); see :class:`zoo.passes.Pass`.

        It runs before the next batch or validation, whichever comes first. A checkpoint written between the step and
        the pass lacks its result and the resumed run makes it up; a cut inside it is repeated whole.
        """
        self._passes[name] = Pass(name, run, every_steps, every_epochs, at_epochs, first)

    def updating_state(self) -> AbstractContextManager[None]:
        """Around what a step does to state that training carries beside weights: `zoo speed` tells its time apart.

        Passes stand in it already.
        """
        return self.trainer.profiler.profile(STATE_UPDATE)

    def _run_due_passes(self, epochs_done: int) -> None:
        self.epochs_done = epochs_done
        for due in self._passes.values():
            if due.is_due(self.steps_done, epochs_done):
                key = (global_seed(), "pass", due.name, self.steps_done, epochs_done)
                # Gradients are on, as before a batch: validation would have switched them off.
                with self.updating_state(), isolated(*key), evaluating(self), torch.enable_grad():
                    due.run()
                due.mark(self.steps_done, epochs_done)

    @torch.no_grad()
    def data_pass(
        self, function: Callable[[Batch], Mapping[str, Tensor]], split: str = "train", augment: bool = False
    ) -> dict[str, Tensor]:
        """Apply `function` to every batch of a split, in evaluation mode, and gather what it returns.

        Args:
            function: batch (on this device) to tensors [B, …].
            split: which split of the data module.
            augment: whether samples are augmented, by the rule of (seed, epoch, index).

        Returns:
            Each tensor for the whole split, [N, …] in the data set's order, equal on all ranks. With `on_bad_file:
            skip`, what takes a sample's place stands in its row; `batch["index"]` tells which it is.
        """
        loader = self.trainer.datamodule.pass_loader(split, augment, epoch=self.current_epoch)
        found: dict[str, list[Tensor]] = {}
        with isolated(global_seed(), "data_pass", split, self.steps_done), evaluating(self):
            for batch in loader:
                for key, value in self._applied(function, batch).items():
                    found.setdefault(key, []).append(value)
        # Rank r has read every world-th sample from the r-th on. By place, not by `index`: what replaces the sample of
        # a bad file stands in its row.
        size, world = len(loader.dataset), world_size()
        order = torch.cat([torch.arange(first, size, world) for first in range(world)]).argsort().to(self.device)
        return {key: gather_rows(torch.cat(values))[order] for key, values in found.items()}

    def meta_pass(self, function: Callable[[Batch], object], split: str, batches: int, batch_size: int) -> None:
        """Call `function` on batches that it learns from: gradients are on, and all ranks see the same batches.

        The split is gone through as often as needed, shuffled and augmented by a rule of (seed, steps done).

        Args:
            function: batch (on this device) to anything.
            split: which split of the data module, one that training does not see.
            batches: how many.
            batch_size: samples in each; an epoch's last may have fewer.
        """
        datamodule = self.trainer.datamodule
        rounds = -(-batches // len(datamodule.meta_loader(split, batch_size)))
        for round in range(rounds):
            loader = datamodule.meta_loader(split, batch_size, epoch=self.steps_done * rounds + round)
            for batch in itertools.islice(loader, batches):
                self._applied(function, batch)
            batches -= len(loader)

    def _applied(self, function: Callable[[Batch], Any], batch: Batch) -> Any:
        """What `function` gives for a batch on this device, in the trainer's precision."""
        precision = self.trainer.precision_plugin
        batch = self.trainer.strategy.batch_to_device(precision.convert_input(batch))
        with precision.forward_context():
            return function(batch)

    # -- optimizers -------------------------------------------------------------------------------------------------

    def optimizers_from(
        self,
        optimizer: OptimizerCallable,
        scheduler: LRSchedulerCallable | None = None,
        parameters: Iterable[nn.Parameter] | Sequence[dict[str, Any]] | None = None,
        interval: str = "step",
    ) -> Any:
        """What `configure_optimizers` returns for one optimizer and, perhaps, a schedule.

        Args:
            optimizer, scheduler: factories, as recipes give them.
            parameters: `None` takes all that require a gradient.
            interval: "step" or "epoch": when the schedule advances.
        """
        made = optimizer(parameters if parameters is not None else [p for p in self.parameters() if p.requires_grad])
        if scheduler is None:
            return made
        return {"optimizer": made, "lr_scheduler": {"scheduler": scheduler(made), "interval": interval}}

    def manual_step(
        self,
        loss: Tensor,
        only: Sequence[int] | None = None,
        accumulate: int = 1,
        gradient_clip_val: float | None = None,
    ) -> None:
        """Backward, and at the end of an accumulation window one step of the optimizers (manual optimisation).

        Args:
            loss: what :meth:`total` gave.
            only: numbers of the optimizers that step, as `configure_optimizers` orders them; `None` is all. The
                others' gradients are dropped.
            accumulate: batches per step; the last window of an epoch may be shorter.
            gradient_clip_val: largest gradient norm over the parameters of each optimizer.
        """
        self._accumulate, self._clip = accumulate, gradient_clip_val
        self.manual_backward(loss / accumulate)
        if not self.at_step_boundary():
            return
        for number, optimizer in enumerate(self._optimizer_list()):
            if only is None or number in only:
                optimizer.step()
            optimizer.zero_grad()
        for schedule in self.trainer.lr_scheduler_configs:  # Lightning leaves these to manual optimisation
            if schedule.interval == "step" or self.trainer.is_last_batch:
                schedule.scheduler.step()
        self._manual_steps += 1

    def _optimizer_list(self) -> list[Optimizer]:
        optimizers = self.optimizers()
        return optimizers if isinstance(optimizers, list) else [optimizers]

    def at_step_boundary(self) -> bool:
        """Whether the running batch ends with an optimizer step. Checkpoints are written only then."""
        if self.automatic_optimization:
            return not self.trainer.fit_loop._should_accumulate()
        batches = self.trainer.fit_loop.epoch_loop.batch_progress.current.ready
        return batches % self._accumulate == 0 or self.trainer.is_last_batch

    # -- Lightning's hooks ------------------------------------------------------------------------------------------
    # A method that overrides one of these calls super() first.

    def setup(self, stage: str) -> None:
        datamodule = self.trainer.datamodule
        if stage == "fit" and datamodule is not None:
            num_classes = getattr(datamodule, "num_classes", 0)
            self.losses.setup_losses(num_samples=datamodule.num_samples("train"), num_classes=num_classes)

    def on_train_start(self) -> None:
        loop = self.trainer.fit_loop
        if loop.restarted_on_epoch_end:
            # Resumed between two epochs of a run that max_steps limits: Lightning would end the last one once more,
            # and from then on count one epoch too many.
            loop.epoch_progress.increment_completed()
            loop.epoch_loop.restarting = loop._restarting = False
            loop.reset_restart_stage()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        self._finite.check()
        self._run_due_passes(self.trainer.fit_loop.epoch_progress.current.processed)
        seed_globals(global_seed(), "batch", rank(), self.batches_begun)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        if self._clip is not None:  # here float16 gradients are no longer scaled
            self.clip_gradients(optimizer, self._clip, "norm")

    def on_validation_start(self) -> None:
        loop = self.trainer.fit_loop
        if self.trainer.state.fn == "fit" and not self.trainer.sanity_checking:
            self._finite.check()
            self._run_due_passes(loop.epoch_progress.current.processed + loop.epoch_loop.batch_progress.is_last_batch)

    def on_train_epoch_end(self) -> None:
        self._finite.check()
        self._run_due_passes(self.trainer.fit_loop.epoch_progress.current.processed)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._finite.check()
        check_weights(self.named_parameters(), self.steps_done)
        checkpoint["zoo"] = {
            "manual_steps": self._manual_steps,
            "passes": {name: entry.done for name, entry in self._passes.items()},
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self._trainer is None or self.trainer.state.fn != "fit":
            # Evaluation has no use for what is remembered of training samples, unless the method made room for it.
            own, saved = self.state_dict().keys(), checkpoint["state_dict"]
            for key in [key for key in saved if key.startswith(self.training_memory) and key not in own]:
                del saved[key]
        kept = checkpoint.get("zoo", {})
        self._manual_steps = kept.get("manual_steps", 0)
        for name, done in kept.get("passes", {}).items():
            if name in self._passes:
                self._passes[name].done = done
