"""NIH ChestX-ray14: 112,120 X-rays of 30,805 patients with 14 findings, read off reports (Wang et al., CVPR 2017)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from torch import Tensor

from datamodules.chestxray14_files import (
    BOXES,
    FINDINGS,
    LISTS,
    Entries,
    find_pictures,
    find_table,
    read_boxes,
    read_entries,
    read_list,
)
from datamodules.multi_label import FindingsList, MultiLabelData, multi_hot
from datamodules.paired_views import Views, chest_views
from zoo.core.errors import DataError


class ChestXray14(MultiLabelData):
    """ChestX-ray14: 14 findings and "No Finding", which is a class of its own, the last one.

    Batch: see :class:`~datamodules.multi_label.MultiLabelData`. 880 of the test pictures have
    `boxes`, of eight findings.

    `root` holds `Data_Entry_2017.csv` or `Data_Entry_2017_v2020.csv`, `train_val_list.txt` and `test_list.txt`, which
    are the official split by patients, `BBox_List_2017.csv`, tables also with `.gz`; and the pictures, as NIH gives
    them in `images/`, as Kaggle does in `images_001/images/` to `images_012/images/`, or in `data/`. Boxes are given
    in the pixels of 1024×1024 pictures, and are scaled to pictures of another size.

    Args:
        image_size: published 512.
        **base: see :class:`~datamodules.multi_label.MultiLabelData`.
    """

    name: ClassVar[str] = "chestxray14"
    folder: ClassVar[str] = "chestxray14"
    classes: ClassVar[tuple[str, ...]] = FINDINGS
    weight_limits: ClassVar[Mapping[str, float]] = {"Pneumonia": 100.0, "Hernia": 150.0}
    normal_factors: ClassVar[tuple[float, float]] = (2.0, 3.0)
    views: ClassVar[Callable[[int], Views]] = staticmethod(chest_views)

    def __init__(self, *, image_size: int = 512, **base: Any) -> None:
        super().__init__(image_size=image_size, **base)

    @cached_property
    def _tables(self) -> tuple[Entries, Tensor]:
        entries = read_entries(self.root)
        return entries, read_boxes(self.root, entries)

    def listing(self, part: Literal["train", "test"]) -> FindingsList:
        entries, boxes = self._tables
        names, pictures = read_list(self.root / LISTS[part], entries), find_pictures(self.root)
        if missing := [name for name in names if name not in pictures]:
            raise DataError(
                f"ChestXray14: of {len(names):,} pictures of {self.root / LISTS[part]}, {len(missing):,} are missing "
                f"under {self.root} (first: {missing[0]}). `zoo data check {self.name} {self.root}` lists all."
            )
        rows = np.array([entries.rows[name] for name in names])
        labels = multi_hot([entries.findings[row] for row in rows], len(FINDINGS))
        return FindingsList(
            [pictures[name] for name in names],
            names,
            labels,
            entries.patients[rows],
            boxes[rows] if len(boxes) else None,
        )

    @classmethod
    def check(cls, root: Path) -> Iterator[str]:
        if find_table(root, BOXES) is None:
            yield f"{root / BOXES} is missing: no picture has boxes."
        try:
            entries = read_entries(root)
        except DataError as error:
            yield str(error)
            return
        try:
            read_boxes(root, entries)
        except DataError as error:
            yield str(error)
        pictures, patients = find_pictures(root), {}
        for part, file in LISTS.items():
            try:
                names = read_list(root / file, entries)
            except DataError as error:
                yield str(error)
                continue
            patients[part] = {int(entries.patients[entries.rows[name]]) for name in names}
            yield from (f"{name} of {root / file} is missing." for name in names if name not in pictures)
            yield from cls.unreadable([pictures[name] for name in names if name in pictures])
        if shared := patients.get("train", set()) & patients.get("test", set()):
            yield f"{root}: {len(shared):,} patients are in both lists (first: {min(shared)})."

    @classmethod
    def write_demo(cls, root: Path, samples: int) -> None:
        from datamodules.demo.chest import write_demo

        write_demo(root, samples)
