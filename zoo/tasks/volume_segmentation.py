"""What methods that segment volumes of several modalities share: draws, schedule, evaluation, predictions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from losses.slots import Slot
from zoo.core.distributed import rank
from zoo.core.errors import RecipeError
from zoo.core.names import did_you_mean, unknown
from zoo.core.randomness import python_generator
from zoo.metrics.region_dice import RegionDice
from zoo.metrics.region_hausdorff import RegionHD95
from zoo.metrics.subsets import SubsetMetrics, all_subsets, evaluate_over_subsets, subset_name
from zoo.module import Batch, ZooModule
from zoo.networks.availability import draw_availability
from zoo.networks.sliding_window import sliding_window
from zoo.networks.unet3d_multimodal import Available, Encodings, MultimodalUNet3d
from zoo.tasks.volume_reports import Pictured, write_overlays, write_scores

AVAILABLE = ("random", "all")

published_sgd = partial(torch.optim.SGD, lr=0.01, momentum=0.99, nesterov=True)
"""The optimizer of ShaSpec, LCKD and MCKD; no weight decay."""


def poly(step: int, end: float, power: float = 0.9) -> float:
    """Factor of the learning rate at a step, counted from 0: (1 - step / end) ** power, 0 from `end` on."""
    return max(1 - step / end, 0.0) ** power


class VolumeSegmentationModule(ZooModule):
    """Base of methods whose batch is :class:`datamodules.batch.VolumeSegmentation`.

    A method names its `network_class` and implements `training_step`. `lightning test` writes into the run's folder
    `scores.csv` and `scores.md` (a row per set of available modalities) and `overlays.png`; `lightning predict`
    writes a label map per case, `predictions/<case>.nii.gz`, from the modalities that are there.

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
    stage_options: ClassVar = {"available": AVAILABLE[0]}
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
        for stage in stages or []:
            if (value := stage.get("available", AVAILABLE[0])) not in AVAILABLE:
                raise unknown("value of `available` of a stage", str(value), AVAILABLE)
        self.modalities, self.regions, self.window = tuple(modalities), tuple(regions), tuple(window)
        self.optimizer = optimizer
        self.network = self.network_class(len(modalities), len(regions), width, checkpointing)
        count = len(self.regions)
        self.val_dice = SubsetMetrics(self.modalities, partial(RegionDice, count))
        self.test_metrics = nn.ModuleDict(
            {
                "dice": SubsetMetrics(self.modalities, partial(RegionDice, count, smooth=0.0)),
                "soft_dice": SubsetMetrics(self.modalities, partial(RegionDice, count)),
                "hd95": SubsetMetrics(self.modalities, partial(RegionHD95, count)),
            }
        )
        self._pictured: Pictured | None = None

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
        return self.usable([[m for m in chosen if m in there] or there for there in self.present(batch)])

    def usable(self, available: Available) -> Available:
        """Which of the available modalities are looked at: all."""
        return available

    def configure_optimizers(self) -> Any:
        length = {"total": self.steps_planned or math.inf, "per_epoch": self.steps_per_epoch}
        schedule = partial(LambdaLR, lr_lambda=lambda step: self.lr_factor(step, **length))
        return self.optimizers_from(self.optimizer or published_sgd, schedule)

    def lr_factor(self, step: int, total: float, per_epoch: int) -> float:
        """Factor of the learning rate at an optimizer step of a run of `total` steps."""
        stage = self.stages.at(step // per_epoch, step)
        return poly(step, min(total, stage.until_step or (stage.until_epoch or math.inf) * per_epoch))

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        # `present` stays on the host: it says which volumes are encoded, and asking the device would wait for it.
        rest = {key: value for key, value in batch.items() if key != "present"}
        moved = super().transfer_batch_to_device(rest, device, dataloader_idx)
        return moved | {key: batch[key] for key in batch.keys() - rest.keys()}

    # -- evaluation ---------------------------------------------------------------------------------------------------

    def forward(self, batch: Batch) -> Tensor:
        """Logits [B, R, D, H, W] from the modalities that are present; no windows."""
        return self.network(self.images(batch), self.usable(self.present(batch)))

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
                self.modalities, present, lambda a: self.network.decode(encodings, self.usable(_lists(a)))
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

    def on_validation_epoch_end(self) -> None:
        found = torch.stack([metric.compute().mean() for _, metric in self.val_dice.items()])
        self.log("val/dice", found.nanmean(), prog_bar=True)
        for _, metric in self.val_dice.items():
            metric.reset()

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Score label maps, as the challenge's server does, and probabilities, as the papers' code does."""
        for row, case in enumerate(batch["id"]):
            target = batch["mask"][row]
            picture = self._picture(batch, row) if rank() == 0 and self._pictured is None else None
            for name, probabilities, complete in self.over_subsets(batch, row):
                if not complete:
                    continue
                predicted = self.trainer.datamodule.region_masks(self._label_map(probabilities[0], case))
                self.test_metrics["dice"][name].update(predicted[None], target[None])
                self.test_metrics["soft_dice"][name].update(probabilities, target[None])
                self.test_metrics["hd95"][name].update(predicted, target, _spacing(batch, row))
                if picture:
                    picture.predictions[name] = predicted[:, self._slice(target)].cpu().numpy()  # sync: one sample
            self._pictured = picture or self._pictured

    def on_test_epoch_end(self) -> None:
        found = {
            kind: {name: m.compute().reshape(-1) for name, m in of.items()} for kind, of in self.test_metrics.items()
        }
        for kind, of in found.items():
            table = torch.stack([*of.values()])  # subsets, regions
            self.log(f"test/{kind}", table.nanmean())
            self.log_dict({f"test/{kind}_{r}": value for r, value in zip(self.regions, table.nanmean(0), strict=True)})
            if kind == "dice":
                self.log_dict({f"test/{kind}_{name}": value.mean() for name, value in of.items()})
        if rank() == 0:
            folder = self._folder()
            scores = {
                name: {
                    f"{kind}_{r}": float(v)
                    for kind in found
                    for r, v in zip(self.regions, found[kind][name], strict=True)
                }
                for name in self.val_dice.names
            }
            write_scores(scores, self.modalities, folder / "scores")
            if self._pictured:
                write_overlays(self._pictured, folder / "overlays.png")
            rank_zero_info(f"Scores per set of available modalities: {folder}/scores.md; one slice: overlays.png")
        self._pictured = None

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """`id`, and the files with each sample's label map, written in the space of the batch's `reference`."""
        folder, files = self._folder() / "predictions", []
        folder.mkdir(exist_ok=True)
        for row, case in enumerate(batch["id"]):
            images = self.images(batch)[row : row + 1]
            available = self.usable(self.present(batch)[row : row + 1])
            zero = self.network.encode_zero(self.window, images)

            def predict(window: Tensor, available: Available = available, zero: Encodings = zero) -> Tensor:
                return self.network.decode(self.network.encode(window, available, zero), available).sigmoid()

            probabilities = sliding_window(predict, images, self.window)[0]
            files.append(str(folder / f"{case}.nii.gz"))
            labels = self._label_map(probabilities, case)
            self.trainer.datamodule.write_labels(Path(files[-1]), labels, Path(batch["reference"][row]))
        return {"id": batch["id"], "files": files}

    def _label_map(self, probabilities: Tensor, case: str) -> Tensor:
        return self.trainer.datamodule.label_map(probabilities, case)

    @staticmethod
    def _slice(target: Tensor) -> int:
        """The slice that has most of the regions."""
        return int(target.sum((0, 2, 3)).argmax())  # sync: of the one sample that is drawn

    def _picture(self, batch: Batch, row: int) -> Pictured:
        target = batch["mask"][row]
        there = [n for n in ("t1ce", *self.modalities) if n in self.modalities and batch["present"][n][row]]
        name = (there or self.modalities)[0]
        image = batch["modalities"][name][row, 0, self._slice(target)]
        shown = f"{batch['id'][row]}, {name}, slice {self._slice(target)}"
        masks = target[:, self._slice(target)].cpu().numpy()  # sync: one sample
        return Pictured(shown, image.float().cpu().numpy(), self.regions, masks, {})  # sync: one sample

    def _folder(self) -> Path:
        folder = Path(self.trainer.log_dir or self.trainer.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def _lists(available: Tensor) -> list[list[int]]:
    """Bool [M, B] on the host to the available modalities of each sample."""
    return [[m for m, there in enumerate(column) if there] for column in available.T.tolist()]


def _spacing(batch: Batch, row: int) -> list[float]:
    """Of slices, rows and columns in millimetres; 1 where the batch does not say."""
    if "affine" not in batch:
        return [1.0, 1.0, 1.0]
    height, width, depth = batch["affine"][row, :3, :3].norm(dim=0).tolist()  # sync: evaluation
    return [depth, height, width]
