"""What the candidates of the prior are worth, where the true labels are known: for analysis, never for training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class PriorStatistics(Metric):
    """How often the coverage holds the true class, and how many candidates rightly and wrongly labelled samples have.

    As the published code reports them: coverage per sample, the two sizes as means over batches of the batches' means.
    Batches without a sample of the kind count for neither (the published value is then not a number).
    """

    full_state_update = False
    covered: Tensor
    samples: Tensor
    sizes: Tensor
    batches: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name, size in (("covered", ()), ("samples", ()), ("sizes", (2,)), ("batches", (2,))):
            self.add_state(name, torch.zeros(size), dist_reduce_fx="sum")

    def update(self, covered: Tensor, candidates: Tensor, label: Tensor, clean_label: Tensor) -> None:
        """Add a batch.

        Args:
            covered: bool [B, C], given and drawn classes.
            candidates: bool [B, C], all classes with a prior above 0.
            label, clean_label: int64 [B].
        """
        self.covered += covered.gather(1, clean_label[:, None]).sum()
        self.samples += len(label)
        wrong = label != clean_label
        kinds = torch.stack([~wrong, wrong]).float()  # [2, B]
        count = kinds.sum(1)
        self.sizes += (kinds @ candidates.sum(1).float()) / count.clamp_min(1)
        self.batches += (count > 0).float()

    def compute(self) -> dict[str, Tensor]:
        """Scalars: `coverage`, `candidates_clean`, `candidates_noisy`; not a number where there was nothing."""
        clean, noisy = (self.sizes / self.batches).unbind()
        return {"coverage": self.covered / self.samples, "candidates_clean": clean, "candidates_noisy": noisy}
