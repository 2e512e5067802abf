"""What papers on noisy labels compare with: a plain classifier with any loss, and Co-teaching."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from zoo.core.distributed import gather_rows, mean_over_ranks, rank, world_size
from zoo.core.errors import RecipeError
from zoo.module import Batch
from zoo.networks.noisy_label_backbones import backbone as make_backbone
from zoo.tasks.image_classification import ImageClassificationModule


class _Baseline(ImageClassificationModule):
    """One or two networks with one head each."""

    def __init__(
        self, count: int, num_classes: int, backbone: str, width: int, normalisation: str, **rest: Any
    ) -> None:
        super().__init__(num_classes, normalisation, **rest)
        bodies = [make_backbone(backbone, width) for _ in range(count)]
        self.networks = nn.ModuleList(nn.Sequential(body, nn.Linear(body.dim, num_classes)) for body in bodies)

    def logits(self, image: Tensor) -> Tensor:
        return torch.stack([network(image).float() for network in self.networks]).sum(0)

    def configure_optimizers(self) -> Any:
        sgd = partial(torch.optim.SGD, lr=0.02, momentum=0.9, weight_decay=5e-4)  # GNL's, for a fair comparison
        return self.optimizers_from(self.optimizer or sgd, self.scheduler, interval="epoch")


class ImageClassifier(_Baseline):
    """A plain classifier. One line of a recipe gives it any loss of kind `classification`:

        losses: {task: {name: elr}}

    Batch: :class:`~datamodules.batch.ImageClassification`.

    Args:
        num_classes: classes in the data set, C.
        backbone: see :func:`zoo.networks.noisy_label_backbones.backbone`.
        width: channels of its first stage.
        normalisation: statistics of the images, see :data:`zoo.networks.normalise.STATISTICS`.
        optimizer: factory; `None` takes SGD, learning rate 0.02, momentum 0.9, weight decay 5e-4.
        scheduler: factory, advanced every epoch; `None` is none.
        losses: changes to the slot `task`.
    """

    def __init__(
        self,
        num_classes: int = 10,
        backbone: str = "resnet34",
        width: int = 64,
        normalisation: str = "cifar10",
        optimizer: OptimizerCallable | None = None,
        scheduler: LRSchedulerCallable | None = None,
        losses: dict[str, Any] | None = None,
    ) -> None:
        given = {"optimizer": optimizer, "scheduler": scheduler, "losses": losses}
        super().__init__(1, num_classes, backbone, width, normalisation, **given)
        self.save_hyperparameters()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        task = self.losses.task(self(batch), batch["label"], index=batch["index"], epoch=self.current_epoch)
        return self.total({"task": task}, batch)


def kept(size: int, forget_rate: float) -> int:
    """How many of a batch of `size` samples are trained on, at least one."""
    return max(int((1 - forget_rate) * size), 1)


@torch.no_grad()
def small_loss(logits: Tensor, labels: Tensor, forget_rate: float) -> Tensor:
    """Which of this rank's samples are among those of all ranks with the smallest cross-entropies: bool [B].

    A collective; all ranks have equally many samples.

    Args:
        logits: [B, C].
        labels: int64 [B].
        forget_rate: share of the global batch to leave out.
    """
    losses = gather_rows(F.cross_entropy(logits.float(), labels, reduction="none"))
    chosen = torch.zeros_like(losses, dtype=torch.bool)
    chosen[losses.topk(kept(len(losses), forget_rate), largest=False).indices] = True
    return chosen.chunk(world_size())[rank()]


def exchanged_losses(
    both: Sequence[Tensor],
    labels: Tensor,
    forget_rate: float,
    loss: Callable[..., Tensor],
    divide_again: bool = False,
    **known: Any,
) -> list[Tensor]:
    """Each network's loss on the samples that the other one chose (Han et al., NeurIPS 2018, algorithm 1).

    Args:
        both: logits of the two networks, [B, C].
        labels: int64 [B].
        forget_rate: share of the global batch to leave out.
        loss: of kind `classification`.
        divide_again: divide the mean by the number of chosen samples once more, as the published code does; with Adam,
            which it uses, that changes next to nothing.
        known: `index` and `epoch` for the loss.

    Returns:
        Two scalars: means over the chosen samples of all ranks.
    """
    index = known.pop("index", None)
    number = kept(len(labels) * world_size(), forget_rate)
    values = []
    for logits, other in zip(both, reversed(both), strict=True):
        rows = small_loss(other, labels, forget_rate).nonzero().squeeze(1)  # sync: how many are of this rank
        own = loss(logits[rows], labels[rows], index=None if index is None else index[rows], **known)
        share = own * len(rows) if len(rows) else logits.sum() * 0
        value = mean_over_ranks(share, torch.tensor(len(rows), device=logits.device))
        values.append(value / number if divide_again else value)
    return values


class CoTeaching(_Baseline):
    """Co-teaching (Han et al., NeurIPS 2018, arXiv:1804.06872): two networks choose samples for each other.

    Batch: :class:`~datamodules.batch.ImageClassification`. Those of smallest
    loss are chosen; the share that is left out grows from 0 to `noise_rate` over
    the first epochs. Both networks' logits are added; the paper reports each one's accuracy.

    Args:
        noise_rate: share of wrong labels, τ, which has to be known or estimated.
        ramp_epochs: epochs over which the share left out grows; the paper's 10.
        divide_again: as the published code does, see :func:`exchanged_losses`.
        num_classes: classes in the data set, C.
        backbone: see :func:`zoo.networks.noisy_label_backbones.backbone`.
        width: channels of its first stage.
        normalisation: statistics of the images, see :data:`zoo.networks.normalise.STATISTICS`.
        optimizer: factory; `None` takes SGD, learning rate 0.02, momentum 0.9, weight decay 5e-4.
        scheduler: factory, advanced every epoch; `None` is none.
        losses: changes to the slot `task`, the loss of chosen samples; they are always chosen by cross-entropy.
    """

    def __init__(
        self,
        noise_rate: float = 0.4,
        ramp_epochs: int = 10,
        divide_again: bool = False,
        num_classes: int = 10,
        backbone: str = "resnet34",
        width: int = 64,
        normalisation: str = "cifar10",
        optimizer: OptimizerCallable | None = None,
        scheduler: LRSchedulerCallable | None = None,
        losses: dict[str, Any] | None = None,
    ) -> None:
        if not 0 <= noise_rate < 1:
            raise RecipeError(f"model.noise_rate is {noise_rate}; it is a share of the labels, in [0, 1).")
        if ramp_epochs < 2:
            raise RecipeError(f"model.ramp_epochs is {ramp_epochs}; it must be at least 2.")
        given = {"optimizer": optimizer, "scheduler": scheduler, "losses": losses}
        super().__init__(2, num_classes, backbone, width, normalisation, **given)
        self.save_hyperparameters()
        self.noise_rate, self.ramp_epochs, self.divide_again = noise_rate, ramp_epochs, divide_again

    def forget_rate(self, epoch: int) -> float:
        """R(e): from 0 in the first epoch to the noise rate in the last of the ramp, linearly, then constant."""
        return self.noise_rate * min(epoch / (self.ramp_epochs - 1), 1.0)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        image, epoch = self.front_end(batch["image"]), self.current_epoch
        values = exchanged_losses(
            [network(image) for network in self.networks],
            batch["label"],
            self.forget_rate(epoch),
            self.losses.task,
            self.divide_again,
            index=batch["index"],
            epoch=epoch,
        )
        return self.total({"task": values[0] + values[1]}, batch)
