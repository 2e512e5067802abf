"""What methods that classify images share: the front end, accuracy, the best and the last epoch, predictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torchmetrics.classification import MulticlassAccuracy

from losses.slots import Slot
from zoo.core.distributed import rank
from zoo.module import Batch, ZooModule
from zoo.networks.normalise import Normalise
from zoo.tasks.files import append_predictions, run_folder, write_values


class ImageClassificationModule(ZooModule):
    """Base of methods whose batch is :class:`datamodules.batch.ImageClassification`.

    A method implements :meth:`logits`, `training_step` and `configure_optimizers`. Training logs `val/accuracy`, which
    is the last epoch's in the end, and `val/accuracy_best`, the highest of the epochs so far: with wrong labels in
    training the two differ by much, and papers report either. `lightning test` writes `accuracy.csv` into the run's
    folder: the test's accuracy and these two; `lightning predict` writes `predictions.csv`.

    Args:
        num_classes: classes in the data set, C.
        normalisation: by which statistics images are normalised; key of :data:`zoo.networks.normalise.STATISTICS`.
        optimizer, scheduler: factories; `None` takes the method's.
        losses: changes to the method's slots.
        stages: training stages.
    """

    task = "image_classification"
    slots: ClassVar[Mapping[str, Slot]] = {"task": Slot("classification", "cross_entropy")}

    def __init__(
        self,
        num_classes: int,
        normalisation: str,
        optimizer: OptimizerCallable | None = None,
        scheduler: LRSchedulerCallable | None = None,
        losses: dict[str, Any] | None = None,
        stages: list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(losses, stages)
        self.num_classes = num_classes
        self.optimizer, self.scheduler = optimizer, scheduler
        self.front_end = Normalise(normalisation)
        self.val_accuracy, self.test_accuracy = self._accuracy(), self._accuracy()
        self._epochs: dict[str, float] = {}  # validation accuracy of the best and of the last epoch

    def _accuracy(self) -> MulticlassAccuracy:
        """Share of right answers among images of a class; others, such as out-of-distribution ones, have label -1."""
        return MulticlassAccuracy(self.num_classes, average="micro", ignore_index=-1, validate_args=False)

    # -- a method's own -----------------------------------------------------------------------------------------------

    def logits(self, image: Tensor) -> Tensor:
        """Normalised images [B, 3, H, W] to class scores [B, C], larger for likelier classes."""
        raise NotImplementedError

    # -- shared -------------------------------------------------------------------------------------------------------

    def forward(self, batch: Batch) -> Tensor:
        """Logits [B, C] of the batch's images, float [B, 1|3, H, W] in [0, 1]."""
        return self.logits(self.front_end(batch["image"]))

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.score(self(batch), batch["label"], "val")

    def score(self, logits: Tensor, label: Tensor, stage: str) -> None:
        """Count a batch of validation ("val") or test: logits [B, C], int64 [B]."""
        metric = self.val_accuracy if stage == "val" else self.test_accuracy
        metric.update(logits, label)
        self.log(f"{stage}/accuracy", metric, on_epoch=True, prog_bar=stage == "val", add_dataloader_idx=False)

    def on_validation_epoch_end(self) -> None:
        if self.trainer.state.fn != "fit" or self.trainer.sanity_checking:
            return
        last = float(self.val_accuracy.compute())  # sync: once per epoch
        self._epochs = {"best": max(last, self._epochs.get("best", 0.0)), "last": last}
        self.log("val/accuracy_best", self._epochs["best"])

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        if dataloader_idx == 0:  # further sets hold images of no known class
            self.score(self(batch), batch["label"], "test")

    def on_test_epoch_end(self) -> None:
        rows = {"test": float(self.test_accuracy.compute())}  # sync: once
        rows |= {f"validation, {which} epoch": value for which, value in self._epochs.items()}
        if rank() == 0:
            write_values(rows, "accuracy", run_folder(self) / "accuracy.csv")

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """`id` and float [B, C] class probabilities of each sample; also appended to `predictions.csv`."""
        found = {"id": batch["id"], "probabilities": self(batch).softmax(1)}
        append_predictions(self, batch_idx, **found)
        return found

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["zoo"]["accuracy"] = dict(self._epochs)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self._epochs = dict(checkpoint.get("zoo", {}).get("accuracy", {}))
