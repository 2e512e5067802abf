"""Evaluation over all sets of available modalities: encode once, classify once per set, one table."""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torchmetrics import Metric

Subset = tuple[str, ...]


def all_subsets(modalities: Sequence[str]) -> list[Subset]:
    """All non-empty sets of modalities, small ones first, each in the order of `modalities`."""
    sizes = range(1, len(modalities) + 1)
    return [subset for size in sizes for subset in itertools.combinations(modalities, size)]


def subset_name(subset: Subset) -> str:
    """`image+audio`: how a set is written in tables and metric names."""
    return "+".join(subset)


def evaluate_over_subsets(
    modalities: Sequence[str], present: dict[str, Tensor], predict: Callable[[Tensor], Tensor]
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Predict with every set of modalities.

    Args:
        modalities: names, in the order of the rows of what `predict` takes.
        present: bool [B] per modality: which samples have it at all.
        predict: bool [M, B] (available modalities, perhaps none of a sample) to predictions [B, …]; it should close
            over encodings that were computed once.

    Yields:
        The set's name, the predictions [B, …], and bool [B]: which samples have all modalities of the set.
    """
    there = torch.stack([present[name] for name in modalities])
    for subset in all_subsets(modalities):
        chosen = torch.tensor([name in subset for name in modalities], device=there.device)
        available = there & chosen[:, None]
        yield subset_name(subset), predict(available), (available == chosen[:, None]).all(0)


class SubsetMetrics(nn.Module):
    """One metric per set of modalities.

    Args:
        modalities: their names.
        metric: makes one metric.
    """

    def __init__(self, modalities: Sequence[str], metric: Callable[[], Metric]) -> None:
        super().__init__()
        self.names = [subset_name(subset) for subset in all_subsets(modalities)]
        self.metrics = nn.ModuleList(metric() for _ in self.names)

    def __getitem__(self, name: str) -> Metric:
        return self.metrics[self.names.index(name)]

    def items(self) -> Iterator[tuple[str, Metric]]:
        return zip(self.names, self.metrics, strict=True)


def write_table(rows: dict[str, float], metric: str, path: Path) -> None:
    """Write a value per set of modalities, in [0, 1] or NaN, as `path`.csv and as a chart, `path`.png."""
    with path.with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["available", metric])
        writer.writerows((name, f"{value:.4f}") for name, value in rows.items())

    from matplotlib.figure import Figure  # not at import time: training needs no plots

    figure = Figure(figsize=(6, 1.2 + 0.4 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    bars = axes.barh(list(rows), [0.0 if math.isnan(value) else value for value in rows.values()], color="#4477aa")
    axes.bar_label(bars, ["no samples" if math.isnan(value) else f"{value:.1%}" for value in rows.values()], padding=3)
    axes.set(xlim=(0, 1.12), xlabel=metric, ylabel="available modalities")
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path.with_suffix(".png"), dpi=120)
