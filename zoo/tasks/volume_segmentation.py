"""What methods that segment volumes of several modalities share: draws, schedule, evaluation, predictions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from losses.slots import Slot
from zoo.core.errors import RecipeError
from zoo.core.names import did_you_mean
from zoo.core.randomness import python_generator
from zoo.metrics.region_dice import RegionDice
from zoo.metrics.subsets import SubsetMetrics, all_subsets, evaluate_over_subsets, subset_name
from zoo.module import Batch, ZooModule
from zoo.networks.availability import draw_availability
from zoo.networks.sliding_window import sliding_window
from zoo.networks.unet3d_multimodal import MultimodalUNet3d

published_sgd = partial(torch.optim.SGD, lr=0.01, momentum=0.99, nesterov=True)
"""The optimizer of ShaSpec, LCKD and MCKD; no weight decay."""


def poly(step: int, end: int, power: float = 0.9) -> float:
    """Factor of the learning rate at a step, counted from 0: (1 - step / end) ** power, 0 from `end` on."""
    return max(1 - step / end, 0.0) ** power


class VolumeSegmentationModule(ZooModule):
    """Base of methods whose batch is :class:`datamodules.batch.VolumeSegmentation`.

    A method names its `network_class` and implements `training_step`.

    Args:
        modalities: names in the batch, in the order of the network's inputs.
        regions: names of the mask's channels.
        width: channels of the encoder's stem; 64 as published.
        window: depth, height and width in which whole volumes are predicted: the size of the training crops.
        checkpointing: recompute the encoders' activations in the backward pass instead of keeping them.
        optimizer: factory; `None` takes :data:`published_sgd`. The rate falls as
            :func:`poly` with the end of the running stage as its end: it rises again where a stage begins.
        losses: changes to the slots.
        stages: training stages; `available` is `random` (a set of modalities per batch) or `all`.
    """

    task = "volume_segmentation"
    slots: ClassVar = {"task": Slot("segmentation", "dice_bce")}
    stage_options: ClassVar = {"available": "random"}
    network_class: ClassVar[type[MultimodalUNet3d]] = MultimodalUNet3d

    def __init__(
        self,
        modalities: Sequence[str] = ("flair", "t1", "t1ce", "t2"),
        regions: Sequence[str] = ("ET", "WT", "TC"),
        width: int = 64,
        window: tuple[int, int, int] = (80, 160, 160),
        checkpointing: bool = False,
        optimizer: OptimizerCallable | None = None,
        losses: dict[str, Any] | None = None,
        stages: list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(losses, stages)
        self.save_hyperparameters()
        self.modalities, self.regions, self.window = tuple(modalities), tuple(regions), tuple(window)
        self.optimizer = optimizer
        self.network = self.network_class(len(modalities), len(regions), width, checkpointing)
        self.val_dice = SubsetMetrics(self.modalities, partial(RegionDice, len(self.regions)))

    # -- training -----------------------------------------------------------------------------------------------------

    @property
    def max_available(self) -> int:
        """The most modalities that a draw makes available."""
        return len(self.modalities)

    def images(self, batch: Batch) -> Tensor:
        """All modalities, [B, M, D, H, W]; what stands in absent ones means nothing.

        Raises:
            RecipeError: if the batch has not all modalities of the model, or its mask other regions.
        """
        for name in self.modalities:
            if name not in batch["modalities"]:
                near = did_you_mean(name, batch["modalities"])
                raise RecipeError(f"The data have no modality {name!r}, which model.modalities names. {near}")
        if "mask" in batch and batch["mask"].shape[1] != len(self.regions):
            raise RecipeError(
                f"The data's masks have {batch['mask'].shape[1]} regions, model.regions names {len(self.regions)}."
            )
        return torch.cat([batch["modalities"][name] for name in self.modalities], 1)

    def present(self, batch: Batch) -> list[list[int]]:
        """Per sample the modalities that it has, ascending."""
        rows = zip(*(batch["present"][name].tolist() for name in self.modalities), strict=True)  # on the host
        return [[m for m, there in enumerate(row) if there] for row in rows]

    def drawn(self, batch: Batch) -> list[list[int]]:
        """Per sample the present modalities that this training step uses, in drawn order.

        One draw per batch, equal on all ranks: first how many, then which, or all where the stage says so. A sample
        that has none of the drawn ones uses all it has.
        """
        count = len(self.modalities)
        chosen = list(range(count))
        if self.stage["available"] == "random":
            chosen = draw_availability(python_generator(*self.draw_key("availability")), count, self.max_available)
        return [[m for m in chosen if m in there] or there for there in self.present(batch)]

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer or published_sgd
        return self.optimizers_from(optimizer, partial(LambdaLR, lr_lambda=lambda step: self.lr_factor(step)))

    def lr_factor(self, step: int) -> float:
        """Factor of the learning rate at an optimizer step."""
        total = self.trainer.estimated_stepping_batches
        per_epoch = math.ceil(self.trainer.num_training_batches / self.trainer.accumulate_grad_batches)
        stage = self.stages.at(step // per_epoch, step)
        return poly(step, stage.until_step or (stage.until_epoch or 0) * per_epoch or int(total))

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        # `present` stays on the host: it says which volumes are encoded, and asking the device would wait for it.
        rest = {key: value for key, value in batch.items() if key != "present"}
        moved = super().transfer_batch_to_device(rest, device, dataloader_idx)
        return moved | {key: batch[key] for key in batch.keys() - rest.keys()}

    # -- evaluation ---------------------------------------------------------------------------------------------------

    def forward(self, batch: Batch) -> Tensor:
        """Logits [B, R, D, H, W] from the modalities that are present; no windows."""
        return self.network(self.images(batch), self.present(batch))

    def over_subsets(self, batch: Batch, row: int, *, logits: bool = False) -> Iterator[tuple[str, Tensor, bool]]:
        """Predict one sample's whole volume with every set of modalities.

        In each window every modality is encoded once, the zero volume of missing ones once for all windows.

        Args:
            row: of the sample in the batch.
            logits: average logits over windows rather than probabilities.

        Yields:
            The set's name, probabilities [1, R, D, H, W], and whether the sample has all modalities of the set.
        """
        images, there = self.images(batch)[row : row + 1], self.present(batch)[row : row + 1]
        present = {name: torch.tensor([m in there[0]]) for m, name in enumerate(self.modalities)}
        zero = self.network.encode_zero(self.window, images)

        def predict(window: Tensor) -> Tensor:
            encodings = self.network.encode(window, there, zero)
            found = evaluate_over_subsets(
                self.modalities, present, lambda available: self.network.decode(encodings, _lists(available))
            )
            return torch.cat([found if logits else found.sigmoid() for _, found, _ in found], 1)

        everything = sliding_window(predict, images, self.window).unflatten(1, (-1, len(self.regions)))
        for subset, found in zip(all_subsets(self.modalities), everything.unbind(1), strict=True):
            complete = all(self.modalities.index(name) in there[0] for name in subset)
            yield subset_name(subset), found.sigmoid() if logits else found, complete

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        for row in range(len(batch["id"])):
            for name, probabilities, complete in self.over_subsets(batch, row, logits=True):
                if complete:
                    self.val_dice[name].update(probabilities, batch["mask"][row : row + 1])


def _lists(available: Tensor) -> list[list[int]]:
    """Bool [M, B] on the host to the available modalities of each sample."""
    return [[m for m, there in enumerate(column) if there] for column in available.T.tolist()]
