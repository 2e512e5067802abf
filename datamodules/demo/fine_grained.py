"""Writes small fine-grained data sets of drawn birds, each in the layout of its download."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from datamodules.demo.birds import (
    CLASSES,
    KINDS,
    NUM_CLASSES,
    PART_NAMES,
    Bird,
    Word,
    draw_bird,
    novel_combination,
    novel_shape,
)
from zoo.core.errors import RecipeError
from zoo.core.extras import require
from zoo.core.randomness import numpy_generator

Drawn = list[tuple[int, bool, Bird]]
"""Class, whether it is for training, bird."""


def write_demo(root: Path, samples: int, write: Callable[[Path, Drawn], None]) -> None:
    """Write `samples` birds, half of them for training, and a sixth as many of either kind of unknown birds.

    Raises:
        RecipeError: if these are fewer than two per class.
    """
    if samples < 2 * NUM_CLASSES:
        raise RecipeError(f"A demo of birds has at least {2 * NUM_CLASSES} samples, not {samples}.")
    write(root, [_known(number) for number in range(samples)])
    for name, draw in (("new_shape", novel_shape), ("new_combination", novel_combination)):
        words = [draw(numpy_generator("bird", name, number)) for number in range(max(samples // 6, NUM_CLASSES))]
        unknown = [(n % NUM_CLASSES, False, draw_bird(word, name, n)) for n, word in enumerate(words)]
        write_cub(root / "out_of_distribution" / name, unknown)


def _known(number: int) -> tuple[int, bool, Bird]:
    turn, label = divmod(number, NUM_CLASSES)
    return label, turn % 2 == 0, draw_bird(CLASSES[label], "train" if turn % 2 == 0 else "test", number)


def class_name(word: Word) -> str:
    return "_".join(f"{kind.capitalize()}{shape}" for kind, shape in zip(KINDS, word, strict=True))


def write_cub(root: Path, birds: Drawn) -> None:
    """CUB-200-2011's layout, PNGs aside: JPEG would blur 64 pixels."""
    folder = root / "CUB_200_2011"
    folders = [f"{number:03}.{class_name(word)}" for number, word in enumerate(CLASSES, start=1)]
    lines: dict[str, list[str]] = {
        name: [] for name in ("images", "image_class_labels", "train_test_split", "bounding_boxes", "parts/part_locs")
    }
    for number, (label, train, bird) in enumerate(birds, start=1):
        name = f"{folders[label]}/{class_name(CLASSES[label])}_{number:04}"
        _save(bird.image, folder / "images" / f"{name}.png")
        _save(bird.mask, root / "segmentations" / f"{name}.png")
        lines["images"].append(f"{number} {name}.png")
        lines["image_class_labels"].append(f"{number} {label + 1}")
        lines["train_test_split"].append(f"{number} {int(train)}")
        lines["bounding_boxes"].append(f"{number} {' '.join(map(str, bird.box))}")
        for part, (x, y, visible) in enumerate(bird.parts, start=1):
            lines["parts/part_locs"].append(f"{number} {part} {x:.1f} {y:.1f} {int(visible)}")
    lines["classes"] = [f"{number} {name}" for number, name in enumerate(folders, start=1)]
    lines["parts/parts"] = [f"{number} {name}" for number, name in enumerate(PART_NAMES, start=1)]
    (folder / "parts").mkdir(parents=True, exist_ok=True)
    for name, text in lines.items():
        (folder / f"{name}.txt").write_text("\n".join(text) + "\n")


def write_cars(root: Path, birds: Drawn) -> None:
    """Stanford Cars' layout."""
    kinds = [("relative_im_path", "O"), *((f"bbox_{side}", "O") for side in ("x1", "y1", "x2", "y2"))]
    entries = np.zeros(len(birds), dtype=[*kinds, ("class", "O"), ("test", "O")])
    for number, (label, train, bird) in enumerate(birds):
        name = f"car_ims/{number + 1:06}.jpg"
        _save(bird.image, root / name)
        left, top, width, height = bird.box
        entries[number] = (name, left, top, left + width, top + height, label + 1, int(not train))
    names = np.array([class_name(word) for word in CLASSES], dtype="O")
    require("scipy.io", "vision").savemat(root / "cars_annos.mat", {"annotations": entries, "class_names": names})


def write_dogs(root: Path, birds: Drawn) -> None:
    """Stanford Dogs' layout."""
    folders = [f"n{20_000_000 + number}-{class_name(word)}" for number, word in enumerate(CLASSES)]
    (root / "lists").mkdir()
    for part in ("train", "test"):
        files, labels = [], []
        for number, (label, train, bird) in enumerate(birds):
            if train == (part == "train"):
                files.append(f"{folders[label]}/{folders[label].partition('-')[0]}_{number}.jpg")
                labels.append([label + 1])
                _save(bird.image, root / "Images" / files[-1])
        content = {"file_list": np.array(files, dtype="O")[:, None], "labels": np.array(labels)}
        require("scipy.io", "vision").savemat(root / "lists" / f"{part}_list.mat", content)


def write_pets(root: Path, birds: Drawn) -> None:
    """Oxford-IIIT Pets' layout."""
    (root / "annotations").mkdir()
    lines: dict[str, list[str]] = {"trainval": ["# Image CLASS-ID SPECIES BREED ID"], "test": []}
    for number, (label, train, bird) in enumerate(birds):
        name = f"{class_name(CLASSES[label])}_{number}"
        _save(bird.image, root / "images" / f"{name}.jpg")
        lines["trainval" if train else "test"].append(f"{name} {label + 1} 1 {label + 1}")
    for part, text in lines.items():
        (root / "annotations" / f"{part}.txt").write_text("\n".join(text) + "\n")


def _save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, quality=95)


WRITERS = {"cub200": write_cub, "stanford_cars": write_cars, "stanford_dogs": write_dogs, "oxford_pets": write_pets}
