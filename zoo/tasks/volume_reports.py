"""Tables and pictures of the segmentation of volumes with every set of modalities."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zoo.metrics.subsets import all_subsets, subset_name

Scores = Mapping[str, Mapping[str, float]]
"""Per set of modalities, in the papers' order, a value per column."""

COLOURS = ("#e8c547", "#d1495b", "#4477aa", "#66aa55", "#aa66aa")


def write_scores(scores: Scores, modalities: Sequence[str], path: Path) -> None:
    """Write `path`.csv and `path`.md, a table like the papers': a row per set, dots for what is available, the mean."""
    columns = list(next(iter(scores.values())))
    mean = {column: float(np.nanmean([row[column] for row in scores.values()])) for column in columns}
    with path.with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["available", *columns])
        writer.writerows([name, *(f"{row[c]:.4f}" for c in columns)] for name, row in {**scores, "mean": mean}.items())
    lines = [[*modalities, *columns], ["---"] * (len(modalities) + len(columns))]
    for subset in all_subsets(modalities):
        dots = ["●" if name in subset else "○" for name in modalities]
        lines.append([*dots, *(_shown(column, scores[subset_name(subset)][column]) for column in columns)])
    lines.append(["mean", *[""] * (len(modalities) - 1), *(_shown(column, mean[column]) for column in columns)])
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    path.with_suffix(".md").write_text(f"{text}\n", encoding="utf-8")


def _shown(column: str, value: float) -> str:
    if np.isnan(value):
        return "–"
    return f"{value:.1f}" if column.startswith("hd95") else f"{100 * value:.2f}"


@dataclass
class Pictured:
    """One slice of a volume.

    Attributes:
        name: the sample's.
        image: float [H, W].
        regions: their names.
        target: uint8 [R, H, W].
        predictions: per set of modalities [R, H, W].
    """

    name: str
    image: np.ndarray
    regions: Sequence[str]
    target: np.ndarray
    predictions: dict[str, np.ndarray]


def write_overlays(pictured: Pictured, path: Path) -> None:
    """The annotated slice and the prediction from each set of modalities, regions over the image."""
    from matplotlib.colors import to_rgba
    from matplotlib.figure import Figure  # not at import time: training needs no plots
    from matplotlib.patches import Patch

    panels = {"annotated": pictured.target, **pictured.predictions}
    columns = 4
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(2.6 * columns, 2.8 * rows + 0.7), layout="constrained")
    # Large regions first: small ones are painted over them.
    sizes = [max(int(mask[region].sum()) for mask in panels.values()) for region in range(len(pictured.regions))]
    order = sorted(range(len(sizes)), key=lambda region: -int(pictured.target[region].sum()) or -sizes[region])
    colours = [to_rgba(COLOURS[region % len(COLOURS)], alpha=0.55) for region in range(len(sizes))]
    for place, (name, mask) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(rows, columns, place)
        low, high = np.quantile(pictured.image, [0.01, 0.995])
        axes.imshow(pictured.image, cmap="gray", vmin=low, vmax=max(high, low + 1e-6))
        paint = np.zeros((*pictured.image.shape, 4))
        for region in order:
            paint[mask[region] > 0] = colours[region]
        axes.imshow(paint, interpolation="nearest")
        axes.set_title(name, fontsize=9)
        axes.set(xticks=[], yticks=[])
    patches = [Patch(color=colour, label=name) for colour, name in zip(colours, pictured.regions, strict=True)]
    figure.legend(handles=patches, loc="outside lower center", ncols=len(patches), frameon=False)
    figure.suptitle(pictured.name, fontsize=10)
    figure.savefig(path, dpi=110)
