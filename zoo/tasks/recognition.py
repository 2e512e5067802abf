"""What methods share that classify images and tell those of no known class (out of distribution) from the others."""

from __future__ import annotations

import csv

import torch
from torch import Tensor, nn
from torchmetrics.aggregation import CatMetric

from zoo.core.distributed import rank
from zoo.metrics.ood import OutOfDistribution, out_of_distribution
from zoo.module import Batch
from zoo.tasks.files import run_folder
from zoo.tasks.image_classification import ImageClassificationModule


class RecognitionModule(ImageClassificationModule):
    """Base of image classifiers that are tested on out-of-distribution sets too.

    The first test loader holds images of known classes, each further one an out-of-distribution set, called as the
    data module's `test_names` says. `lightning test` then also writes `out_of_distribution.csv`: per set the area under
    the ROC curve, the share of its images above the score that 95 % of the known images exceed, and that score.
    """

    def known_score(self, logits: Tensor) -> Tensor:
        """Larger for images that look like the known classes: [B, C] to [B]. The highest probability, unless a method
        has a better one (Hendrycks & Gimpel, ICLR 2017)."""
        return logits.softmax(1).amax(1)

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage == "test":
            names = getattr(self.trainer.datamodule, "test_names", ("test",))
            self.test_scores = nn.ModuleDict({name: CatMetric().to(self.device) for name in names})

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        logits = self(batch)
        self._score(logits, dataloader_idx)
        if dataloader_idx == 0:
            self.score(logits, batch["label"], "test")

    def _score(self, logits: Tensor, dataloader_idx: int) -> None:
        [*self.test_scores.values()][dataloader_idx].update(self.known_score(logits))

    def on_test_epoch_end(self) -> None:
        super().on_test_epoch_end()
        known, *others = (_scores(metric) for metric in self.test_scores.values())
        names = [*self.test_scores][1:]
        if names and len(known):
            found = {name: out_of_distribution(known, scores) for name, scores in zip(names, others, strict=True)}
            for name, measures in found.items():
                self.log(f"test/auroc_{name}", measures.auroc)
                self.log(f"test/fpr95_{name}", measures.fpr95)
            if rank() == 0:
                extra = {name: self.further_measures(known, scores) for name, scores in zip(names, others, strict=True)}
                _write(found, extra, self)

    def further_measures(self, known: Tensor, unknown: Tensor) -> dict[str, float]:
        """A method's own columns of `out_of_distribution.csv`, from scores [N] and [M]."""
        return {}


def _scores(metric: CatMetric) -> Tensor:
    found = metric.compute()
    return found.flatten() if isinstance(found, Tensor) else torch.empty(0)


def _write(found: dict[str, OutOfDistribution], extra: dict[str, dict[str, float]], module: RecognitionModule) -> None:
    with (run_folder(module) / "out_of_distribution.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["set", "auroc", "fpr95", "threshold", *next(iter(extra.values()))])
        for name, measures in found.items():
            values = (measures.auroc, measures.fpr95, measures.threshold, *extra[name].values())
            writer.writerow([name, *(f"{value:.4g}" for value in values)])
