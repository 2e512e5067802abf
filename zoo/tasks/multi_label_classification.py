"""What methods share that find several things in an image, "normal" being the last class: measures, predictions."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor

from losses.slots import Slot
from zoo.core.distributed import rank
from zoo.metrics.findings import FindingMetric
from zoo.metrics.localisation import THRESHOLDS, LocalisationMetric
from zoo.module import Batch, ZooModule
from zoo.networks.normalise import Normalise
from zoo.tasks.files import append_predictions, run_folder


class MultiLabelModule(ZooModule):
    """Base of methods whose batch is :class:`datamodules.batch.MultiLabelClassification`.

    A method implements :meth:`look`, `training_step` and `configure_optimizers`. Training logs `val/auc`, the mean over
    findings. `lightning test` writes `findings.csv` (area under the ROC curve, highest F1, accuracy at its threshold,
    per finding and mean) and, where images come with boxes, `localisation.csv` (T(IoU); protocol:
    :mod:`zoo.metrics.localisation`); `lightning predict` writes `predictions.csv`, a probability per finding. A finding
    that no image of the split has, or every one, is left out of means, and this is said.

    Args:
        num_classes: classes of the data set, normal included, C.
        optimizer, scheduler: factories; `None` takes the method's.
        losses: changes to the method's slots.
        stages: training stages.
    """

    task = "multi_label_classification"
    slots: ClassVar[Mapping[str, Slot]] = {"task": Slot("multi_label", "finding_or_normal")}

    def __init__(
        self,
        num_classes: int,
        optimizer: OptimizerCallable | None = None,
        scheduler: LRSchedulerCallable | None = None,
        losses: dict[str, Any] | None = None,
        stages: list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(losses, stages)
        self.num_classes = num_classes
        self.optimizer, self.scheduler = optimizer, scheduler
        self.front_end = Normalise("imagenet")
        self.val_findings, self.test_findings = FindingMetric(), FindingMetric()
        self.test_boxes = LocalisationMetric(num_classes - 1)

    # -- a method's own -----------------------------------------------------------------------------------------------

    def look(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised images [B, 3, H, W] to logits [B, C], normal last, and to where each class is seen [B, C, h, w],
        larger where there is more of it."""
        raise NotImplementedError

    # -- shared -------------------------------------------------------------------------------------------------------

    def forward(self, batch: Batch) -> Tensor:
        """Logits [B, C] of the batch's images, float [B, 1|3, H, W] in [0, 1]."""
        return self.look(self.front_end(batch["image"]))[0]

    def probabilities(self, logits: Tensor) -> Tensor:
        """Of each finding, against normal alone: [B, C] to [B, C - 1]."""
        return (logits[:, :-1] - logits[:, -1:]).float().sigmoid()

    def finding_names(self) -> list[str]:
        """As the data module calls them, else their numbers."""
        names = getattr(self.trainer.datamodule, "classes", None) or range(self.num_classes)
        return [str(name) for name in names][: self.num_classes - 1]

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.val_findings.update(self.probabilities(self(batch)), batch["label"][:, :-1])

    def on_validation_epoch_end(self) -> None:
        auc = self.val_findings.compute().auc.nanmean()
        self.val_findings.reset()
        # An epoch in which nothing can be ranked, such as a sanity check's, counts as one by chance.
        self.log("val/auc", auc.nan_to_num(0.5).float(), prog_bar=True)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        logits, maps = self.look(self.front_end(batch["image"]))
        self.test_findings.update(self.probabilities(logits), batch["label"][:, :-1])
        if "boxes" in batch:
            self.test_boxes.update(maps, batch["boxes"], batch["size"], tuple(batch["image"].shape[2:]))

    def on_test_epoch_end(self) -> None:
        names, scores = self.finding_names(), self.test_findings.compute()
        measures = {name: value.float() for name, value in scores._asdict().items()}
        if undefined := [name for name, auc in zip(names, scores.auc.tolist(), strict=True) if auc != auc]:
            rank_zero_info(f"Not measured, since no image of the test has it, or every one: {', '.join(undefined)}.")
        self.log_dict({f"test/{name}": value.nanmean() for name, value in measures.items()})
        self._write("findings.csv", names, measures)
        met = self.test_boxes.compute()
        if met.isfinite().any():
            columns = {f"iou>{threshold}": met[:, number] for number, threshold in enumerate(THRESHOLDS)}
            self.log_dict({f"test/localisation_{name}": value.nanmean() for name, value in columns.items()})
            self._write("localisation.csv", names, {"boxes": self.test_boxes.boxes, **columns})
        self.test_findings.reset()
        self.test_boxes.reset()

    def _write(self, file_name: str, names: list[str], columns: Mapping[str, Tensor]) -> None:
        """A row per finding and one of means over those that have the measure."""
        if rank() != 0:
            return
        table = torch.stack([*columns.values()], 1)
        with (run_folder(self) / file_name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["finding", *columns])
            for name, row in zip([*names, "mean"], [*table.tolist(), table.nanmean(0).tolist()], strict=True):
                writer.writerow([name, *(f"{value:.4g}" for value in row)])

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """`id` and float [B, C - 1] probabilities of each finding; also appended to `predictions.csv`."""
        found = {"id": batch["id"], "probabilities": self.probabilities(self(batch))}
        append_predictions(self, batch_idx, **found, names=self.finding_names())
        return found
