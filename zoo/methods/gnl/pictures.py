"""Pictures that a test leaves: how labels go wrong, and whose labels are judged wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

NOISIEST = 24
COLUMNS = 8
MOST_NUMBERS = 12  # classes whose cells are wide enough for a number


class Source(Protocol):
    def load(self, index: int, rng: None) -> dict[str, Any]: ...


def write_transition(estimate: Tensor, true: Tensor | None, names: Sequence[str], path: Path) -> None:
    """Transition matrices [C, C] as heat maps side by side; the true one where it is known."""
    from matplotlib.figure import Figure  # not at import time: training needs no plots

    matrices = {"estimated": estimate} if true is None else {"estimated": estimate, "true": true}
    figure = Figure(figsize=(5.5 * len(matrices) + 0.8, 5.2), layout="constrained")
    for place, (title, matrix) in enumerate(matrices.items(), start=1):
        axes = figure.add_subplot(1, len(matrices), place)
        values = matrix.float().cpu().numpy()  # sync: a picture
        image = axes.imshow(values, cmap="Blues", vmin=0, vmax=1)
        axes.set(title=f"{title} p(given label | true label)", xlabel="given label", ylabel="true label")
        if len(names) <= MOST_NUMBERS:
            axes.set_xticks(range(len(names)), names, rotation=90)
            axes.set_yticks(range(len(names)), names)
            for row, column in ((r, c) for r in range(len(names)) for c in range(len(names))):
                value = values[row, column]
                if value >= 0.005:
                    colour = "white" if value > 0.5 else "black"
                    axes.text(column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=8, color=colour)
    figure.colorbar(image, ax=figure.axes, shrink=0.8)
    figure.savefig(path, dpi=100)


def write_noisiest(source: Source, noise_probability: Tensor, names: Sequence[str], path: Path) -> None:
    """The training images whose labels are likeliest wrong: probability, given label, and the true one where known.

    Titles of labels that really are wrong are coloured.

    Args:
        source: the training split.
        noise_probability: [N].
        names: of the classes.
        path: of the picture.
    """
    from matplotlib.figure import Figure  # not at import time: training needs no plots

    chosen = noise_probability.argsort(descending=True, stable=True)[:NOISIEST].tolist()
    rows = -(-len(chosen) // COLUMNS)
    figure = Figure(figsize=(1.6 * COLUMNS, 2.3 * rows), layout="constrained")
    for place, index in enumerate(chosen, start=1):
        sample = source.load(index, None)
        axes = figure.add_subplot(rows, COLUMNS, place)
        axes.imshow(sample["image"].permute(1, 2, 0).expand(-1, -1, 3).numpy())
        label, clean = int(sample["label"]), int(sample.get("clean_label", torch.tensor(-1)))
        text = f"wrong: {float(noise_probability[index]):.0%}\ngiven {names[label]}"
        if clean >= 0:
            text += f"\ntruly {names[clean]}"
        axes.set_title(text, fontsize=8, color="black" if clean in (-1, label) else "#aa3377")
        axes.set(xticks=[], yticks=[])
    figure.savefig(path, dpi=100)
