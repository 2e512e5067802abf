"""MCKD's importance weights as training state: learned between steps, on data that the network is not trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim import Optimizer

from zoo.core.distributed import sum_over_ranks, world_size
from zoo.core.errors import RecipeError
from zoo.methods.mckd.importance import importance
from zoo.module import Batch, ZooModule


class MetaLearner(ZooModule):
    """What MCKD's tasks share; stands before the task's class among a method's bases.

    The network's optimizer has number 0, the meta-optimizer number 1. All ranks go through the same meta batches: their
    steps follow one another, so there is nothing to share out.
    """

    meta_split: ClassVar[str] = "meta"
    modalities: Sequence[str]
    raw_importance: nn.Parameter

    def add_importance(
        self,
        every_steps: int | Callable[[], int],
        batches: int,
        batch_size: int,
        optimizer: OptimizerCallable | None,
    ) -> None:
        """Create the importance vector; a phase after step 1, and then after every so many, learns it."""
        self.automatic_optimization = False
        # DDP need not look for a gradient, which it never gets in training.
        self.raw_importance = nn.Parameter(torch.rand(len(self.modalities)), requires_grad=False)
        self.meta_optimizer = optimizer or partial(torch.optim.Adam, lr=1e-2, weight_decay=5e-4)
        self.meta_steps_done = 0
        self.meta_batches, self.meta_batch_size = batches, batch_size
        self.add_pass("meta", self._meta_phase, every_steps=every_steps, first=1)

    def _meta_phase(self) -> None:
        self.meta_steps_done = 0  # of this phase
        self.meta_pass(self.meta_step, self.meta_split, self.meta_batches, self.meta_batch_size)

    def meta_loss(self, batch: Batch, weights: Tensor) -> Tensor:
        """Task loss from features that the importance weights [M] scale. Only these get a gradient."""
        raise NotImplementedError

    def meta_step(self, batch: Batch) -> Tensor:
        """Learn the importance vector from one batch; the network does not change.

        Returns:
            The loss before the step.
        """
        raw = self.raw_importance.detach().requires_grad_()
        loss = self.meta_loss(batch, importance(raw))
        (gradient,) = torch.autograd.grad(loss, raw)
        # The same on all ranks but for rounding; after this to the bit.
        self.raw_importance.grad = sum_over_ranks(gradient) / world_size()
        # Not through Lightning's wrapper, which would count a step of training.
        self.optimizers(use_pl_optimizer=False)[1].step()
        self.raw_importance.grad = None
        self.meta_steps_done += 1
        return loss.detach()

    def configure_optimizers(self) -> list[dict[str, Any]]:
        made = super().configure_optimizers()
        network = {"optimizer": made} if isinstance(made, Optimizer) else made
        return [network, {"optimizer": self.meta_optimizer([self.raw_importance])}]

    def setup(self, stage: str) -> None:
        super().setup(stage)
        datamodule = self.trainer.datamodule
        if stage == "fit" and not datamodule.num_samples(self.meta_split):
            raise RecipeError(
                f"{type(self).__name__} learns importance weights on data that it does not train its network on: the "
                f"split {self.meta_split}, in which {type(datamodule).__name__} has no samples as it is set up."
            )

    def log_importance(self) -> None:
        """The importance weights, as `train/importance/<modality>`."""
        weights = importance(self.raw_importance)
        self.log_dict({f"train/importance/{name}": w for name, w in zip(self.modalities, weights, strict=True)})


def frozen(module: nn.Module, *args: Any) -> Any:
    """Call a module whose weights get no gradient, nor does it keep anything for one."""
    return functional_call(module, {name: value.detach() for name, value in module.named_parameters()}, args)
