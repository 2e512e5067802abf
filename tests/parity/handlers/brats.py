"""The BraTS pipeline of ShaSpec's family: normalisation and crop boxes."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

import datamodules.volumes.crops as crops
import datamodules.volumes.intensities as intensities
from tests.parity.harness import Case, handles


@handles("shaspec", "normalise", uses=("datamodules.volumes.intensities.normalise",))
def normalise(case: Case) -> dict[str, Any]:
    inner = (case.inputs["ints"] + 1).numpy() ** 2 // 40
    shape = case.outputs["out"]["shape"]
    padding = [((whole - size) // 2,) * 2 for whole, size in zip(shape, inner.shape, strict=True)]
    volume = np.pad(inner, padding).astype(np.int16)
    return {"out": intensities.normalise(volume, case.config["min_count"])}


class PublishedDraws:
    """The draws of the published sampler: some of NumPy's global generator, some of Python's."""

    def __init__(self, seed: int) -> None:
        self.python, numpy = random.Random(seed), np.random.RandomState(seed)
        self.random, self.uniform, self.choice = self.python.random, numpy.uniform, numpy.choice

    def integers(self, low: int, high: int, endpoint: bool) -> int:
        assert endpoint
        return self.python.randint(low, high)


def boxes(case: Case, sampler: crops.CropSampler) -> dict[str, Any]:
    label = np.zeros((3, *case.config["volume"]))
    label[1, 5:20, 20:50, 15:40] = 1
    label[2, 8:16, 25:40, 20:30] = 1
    rows = []
    for seed in case.config["seeds"]:
        start, stop, scaled = crops.draw_box(label, case.config["crop"], PublishedDraws(seed), sampler)
        rows.append([*np.stack([start, stop], 1).ravel().tolist(), int(scaled)])
    return {"boxes": torch.tensor(rows)}


@handles("shaspec", "crop_boxes", uses=("datamodules.volumes.crops.draw_box",))
def crop_boxes(case: Case) -> dict[str, Any]:
    return boxes(case, "2024")


@handles("lckd", "crop_boxes_old", uses=("datamodules.volumes.crops.draw_box",))
def crop_boxes_old(case: Case) -> dict[str, Any]:
    return boxes(case, "papers")
