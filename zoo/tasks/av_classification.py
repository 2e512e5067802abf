"""What methods that classify from an image and a sound share: evaluation over sets of modalities, tables, pictures."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor
from torchmetrics import MeanMetric

from losses.slots import Slot
from zoo.core.distributed import rank
from zoo.core.randomness import python_generator
from zoo.metrics.subsets import SubsetMetrics, evaluate_over_subsets, write_table
from zoo.module import Batch, ZooModule
from zoo.networks.availability import draw_availability
from zoo.networks.mfcc import MFCC
from zoo.tasks.files import append_predictions, run_folder

PICTURED = 12  # samples in the picture that a test writes


class AVClassificationModule(ZooModule):
    """Base of methods whose batch is :class:`datamodules.batch.AVClassification`.

    A method implements :meth:`encode`, :meth:`classify` and `training_step`. `lightning test` writes
    `accuracy.csv`, `accuracy.png` (a value per set of available modalities) and `samples.png` into the run's folder;
    `lightning predict` writes `predictions.csv`.
    """

    task = "av_classification"
    modalities: ClassVar[tuple[str, ...]] = ("image", "audio")
    slots: ClassVar[Mapping[str, Slot]] = {"task": Slot("classification", "cross_entropy")}

    def __init__(
        self,
        num_classes: int,
        optimizer: OptimizerCallable | None = None,
        scheduler: LRSchedulerCallable | None = None,
        losses: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(losses)
        self.optimizer, self.scheduler = optimizer, scheduler
        self.num_classes = num_classes
        self.front_end = MFCC()
        # Shares of right answers: NaN for a set of modalities that no sample has.
        self.val_accuracy = SubsetMetrics(self.modalities, MeanMetric)
        self.test_accuracy = SubsetMetrics(self.modalities, MeanMetric)
        self._pictured: list[tuple[Tensor, int, str, dict[str, int]]] = []

    # -- a method's own -----------------------------------------------------------------------------------------------

    def encode(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """What :meth:`inputs` gives, to features [M, …, B, D]."""
        raise NotImplementedError

    def classify(self, features: Tensor, available: Tensor) -> Tensor:
        """Features and bool [M, B] (which modalities to use) to logits [B, C]."""
        raise NotImplementedError

    # -- shared -------------------------------------------------------------------------------------------------------

    def inputs(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
        """What the encoders see, and which modalities are present.

        Absent entries, which may hold NaN, are overwritten by zeros first.

        Returns:
            `image` [B, 1, 28, 28] in [0, 1] and `audio` as MFCCs [B, 1, 20, 20]; bool [M, B].
        """
        present = torch.stack([batch["present"][name] for name in self.modalities])
        image = torch.where(batch["present"]["image"][:, None, None, None], batch["modalities"]["image"], 0.0)
        waveform = torch.where(batch["present"]["audio"][:, None], batch["modalities"]["audio"], 0.0)
        return {"image": image, "audio": self.front_end(waveform, batch["lengths"]["audio"])}, present

    def drawn(self, present: Tensor) -> Tensor:
        """Bool [M, B]: the present modalities that this training step may use; one draw per batch, equal on all ranks.

        First how many, then which, as the released ShaSpec code draws. A sample that has none of the drawn ones uses
        all it has.
        """
        count = len(self.modalities)
        chosen = draw_availability(python_generator(*self.draw_key("availability")), count, count)
        mask = torch.tensor([number in chosen for number in range(count)])
        drawn = present & mask.to(present.device, non_blocking=True)[:, None]
        return torch.where(drawn.any(0), drawn, present)

    def forward(self, batch: Batch) -> Tensor:
        """Logits [B, C] from the modalities that are present."""
        cleaned, present = self.inputs(batch)
        return self.classify(self.encode(cleaned), present)

    def configure_optimizers(self) -> Any:
        # SMIL's settings for AV-MNIST; the papers that use its protocol give none.
        optimizer = self.optimizer or partial(torch.optim.Adam, lr=1e-3, weight_decay=1e-4)
        return self.optimizers_from(optimizer, self.scheduler, interval="epoch")

    def _predictions(self, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        cleaned, _ = self.inputs(batch)
        features = self.encode(cleaned)
        sweep = evaluate_over_subsets(self.modalities, batch["present"], lambda a: self.classify(features, a))
        return {name: (logits, complete) for name, logits, complete in sweep}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._evaluate(batch, self.val_accuracy, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        found = self._evaluate(batch, self.test_accuracy, "test")
        if rank() == 0 and len(self._pictured) < PICTURED:
            chosen = {name: logits.argmax(1).tolist() for name, (logits, _) in found.items()}
            for row, (image, label) in enumerate(
                zip(batch["modalities"]["image"], batch["label"].tolist(), strict=True)
            ):
                said = {name: classes[row] for name, classes in chosen.items()}
                self._pictured.append((image.float().cpu(), label, batch["id"][row], said))  # sync: first test batches

    def _evaluate(self, batch: Batch, metrics: SubsetMetrics, stage: str) -> dict[str, tuple[Tensor, Tensor]]:
        found = self._predictions(batch)
        for name, (logits, complete) in found.items():
            right = logits.argmax(1) == batch["label"]
            metrics[name].update(right.float(), weight=complete.float())
            self.log(f"{stage}/accuracy_{name}", metrics[name], on_epoch=True, prog_bar=stage == "val")
        return found

    def on_test_epoch_end(self) -> None:
        rows = {name: float(metric.compute()) for name, metric in self.test_accuracy.items()}
        if rank() == 0:
            folder = run_folder(self)
            write_table(rows, "accuracy", folder / "accuracy")
            _write_samples(self._pictured[:PICTURED], folder / "samples.png")
            rank_zero_info(f"Accuracy per set of available modalities: {folder}/accuracy.png; samples: samples.png")
        self._pictured = []

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """`id` and float [B, C] class probabilities of each sample; also appended to `predictions.csv`."""
        found = {"id": batch["id"], "probabilities": self(batch).softmax(1)}
        append_predictions(self, batch_idx, **found)
        return found


def _write_samples(samples: list[tuple[Tensor, int, str, dict[str, int]]], path: Path) -> None:
    """A contact sheet: each image, its class, and what was predicted from each set of modalities."""
    from matplotlib.figure import Figure  # not at import time: training needs no plots

    columns = 6
    rows = -(-len(samples) // columns)
    figure = Figure(figsize=(2 * columns, 2.9 * rows), layout="constrained")
    figure.get_layout_engine().set(h_pad=0.12)
    for place, (image, label, name, said) in enumerate(samples, start=1):
        axes = figure.add_subplot(rows, columns, place)
        axes.imshow(image[0].numpy(), cmap="gray", vmin=0, vmax=1)
        axes.set_title(f"{name}\nclass {label}", fontsize=8)
        lines = "\n".join(f"{subset}: {guess}{'' if guess == label else ' ✗'}" for subset, guess in said.items())
        axes.set_xlabel(lines, fontsize=8)
        axes.set(xticks=[], yticks=[])
    figure.savefig(path, dpi=100)
