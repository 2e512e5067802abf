"""Explanations of predictions by prototypes, as a picture and as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from zoo.core.errors import DataError
from zoo.tasks.projection import square_around

COLOURS = ("#e6194b", "#f2c200", "#00a6d6")


@dataclass(frozen=True)
class Winner:
    """A prototype that speaks for the class.

    Attributes:
        prototype: its number within its class.
        share: of what speaks for the class.
        similarity: at its best location; of densities, with respect to the peak.
        box: where it looks: left, top, right, bottom as shares of width and height.
        source_image, source_box: the training image and the box that it was projected on.
        activation: over the image [H, W].
        patch: what is seen in the source box, uint8 [3, 64, 64].
    """

    prototype: int
    share: float
    similarity: float
    box: tuple[float, ...]
    source_image: str | None
    source_box: tuple[float, ...] | None
    activation: Tensor
    patch: Tensor | None


@dataclass(frozen=True)
class Explanation:
    """What speaks for the likeliest class of an image.

    Attributes:
        image: its id.
        scores, probabilities: of the likeliest classes, the explained one first.
        known_score: how well the image fits the known classes, if the method says.
        score_name: what the scores are.
        verdict: what is said of these classes.
        winners: the prototypes that speak for the explained class.
    """

    image: str
    scores: dict[str, float]
    probabilities: dict[str, float]
    known_score: float | None
    score_name: str
    verdict: str
    winners: list[Winner] = field(default_factory=list)


def write_explanation(explanation: Explanation, image: Tensor, folder: Path) -> None:
    """Write `<id>.png` and `<id>.json`; slashes of the id become underscores.

    Args:
        explanation: what to tell.
        image: [1|3, H, W] in [0, 1].
        folder: made if need be.

    Raises:
        DataError: if the files cannot be written.
    """
    name = explanation.image.replace("/", "_").replace("\\", "_").lstrip(".")[-150:] or "image"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.json").write_text(json.dumps(_facts(explanation), indent=1), encoding="utf-8")
        _draw(explanation, image, folder / f"{name}.png")
    except OSError as error:
        raise DataError(f"{folder / name} cannot be written: {error.strerror or error}.") from error


def _facts(explanation: Explanation) -> dict:
    return {
        "image": explanation.image,
        "explained": next(iter(explanation.scores)),
        "score": explanation.score_name,
        "scores": explanation.scores,
        "probabilities": explanation.probabilities,
        "known_score": explanation.known_score,
        "prototypes": [
            {key: value for key, value in vars(winner).items() if key not in ("activation", "patch")}
            for winner in explanation.winners
        ],
    }


def _draw(explanation: Explanation, image: Tensor, path: Path) -> None:
    """The image with the boxes of the winners; per winner where it looks, what is there, and the training patch."""
    from matplotlib.figure import Figure  # not at import time: training needs no plots

    winners = explanation.winners
    pixels = image.detach().float().cpu().expand(3, -1, -1).movedim(0, -1).numpy()  # sync: a picture
    width = 3.6 + 2.3 * len(winners)
    figure = Figure(figsize=(width, 8.2))  # laid out by hand: matplotlib's own layouts take three times as long
    sides = {"left": 0.1 / width, "right": 1 - 0.1 / width, "bottom": 0.06, "top": 0.88}
    grid = figure.add_gridspec(
        3, len(winners) + 1, width_ratios=[1.5, *[1.0] * len(winners)], hspace=0.3, wspace=0.12, **sides
    )
    whole = figure.add_subplot(grid[0:2, 0])
    whole.imshow(pixels)
    guesses = [f"{p:6.1%}  {name}" for name, p in explanation.probabilities.items()]
    figure.suptitle(_wrapped(explanation.image, 40 + 30 * len(winners)), x=0.01, ha="left", fontsize=10)
    whole.set_title(f"{explanation.verdict}\n" + "\n".join(guesses), fontsize=9, loc="left")
    score = next(iter(explanation.scores.values()))
    fit = "" if explanation.known_score is None else f"\nfit to known classes {explanation.known_score:.3g}"
    whole.set_xlabel(f"{explanation.score_name} = {score:.2f}{fit}", fontsize=9)
    for column, (winner, colour) in enumerate(zip(winners, COLOURS, strict=False), start=1):
        _outline(whole, winner.box, image, colour)
        overlay = figure.add_subplot(grid[0, column])
        overlay.imshow(pixels)
        overlay.imshow(winner.activation.numpy(), cmap="jet", alpha=0.45)
        _outline(overlay, winner.box, image, colour)
        overlay.set_title(f"prototype {winner.prototype}\n{winner.share:.0%} of the evidence", fontsize=9, color=colour)
        here = figure.add_subplot(grid[1, column])
        here.imshow(_part(pixels, winner.box))
        here.set_title("this part of the image", fontsize=9)
        here.set_xlabel(f"similarity {winner.similarity:.2f}", fontsize=9)
        there = figure.add_subplot(grid[2, column])
        if winner.patch is None:
            there.text(0.5, 0.5, "never projected\non a training image", ha="center", va="center", fontsize=9)
        else:
            there.imshow(winner.patch.movedim(0, -1).numpy())
            there.set_title("looks like this training patch", fontsize=9)
            there.set_xlabel(_wrapped(winner.source_image or ""), fontsize=7)
    for axes in figure.axes:
        axes.set(xticks=[], yticks=[])
    figure.savefig(path, dpi=100)


def _outline(axes, box: tuple[float, ...], image: Tensor, colour: str) -> None:  # noqa: ANN001 (matplotlib's Axes)
    from matplotlib.patches import Rectangle

    height, width = image.shape[1:]
    left, top, right, bottom = box
    corner, size = (left * width - 0.5, top * height - 0.5), ((right - left) * width, (bottom - top) * height)
    axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=colour, linewidth=2))


def _part(pixels, box: tuple[float, ...]):  # noqa: ANN001, ANN202 (arrays)
    top, left, side = square_around(box, pixels.shape[:2])
    return pixels[top : top + side, left : left + side]


def _wrapped(text: str, width: int = 34) -> str:
    return "\n".join(text[start : start + width] for start in range(0, len(text), width))
