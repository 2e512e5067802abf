"""GNL's cases about data: the generators of wrong labels."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor

import datamodules.label_noise as label_noise
from tests.parity.harness import Case, handles

COUNTED = ("datamodules.label_noise.transition_counts", "datamodules.label_noise.transition_matrix")


def _found(case: Case, noisy: Tensor) -> dict[str, Any]:
    clean, classes = case.inputs["labels"], case.config["num_classes"]
    return {
        "noisy_first": noisy[:2000],
        "transition_counts": label_noise.transition_counts(clean, noisy, classes),
        "transition": label_noise.transition_matrix(clean, noisy, classes),
    }


@handles("gnl", "noise_sym", uses=("datamodules.label_noise.symmetric_noise", *COUNTED))
def noise_sym(case: Case) -> dict[str, Any]:
    config, rng = case.config, random.Random(case.config["seed"])
    return _found(case, label_noise.symmetric_noise(case.inputs["labels"], config["num_classes"], config["rate"], rng))


@handles("gnl", "noise_asym", uses=("datamodules.label_noise.asymmetric_noise", *COUNTED))
def noise_asym(case: Case) -> dict[str, Any]:
    config, rng = case.config, random.Random(case.config["seed"])
    mapping = [config["map"][str(number)] for number in range(config["num_classes"])]
    return _found(case, label_noise.asymmetric_noise(case.inputs["labels"], mapping, config["rate"], rng))


PIXELS = {"floor(255*u)": lambda u: torch.floor(255 * u), "(u-0.5)/0.25/4": lambda u: (u - 0.5) / 0.25 / 4}


def noise_idn(case: Case) -> dict[str, Any]:
    config, labels = case.config, case.inputs["labels"].clone()
    labels[:8] = 0
    found = label_noise.instance_noise(
        PIXELS[config["pixels"]](case.inputs["pixels"]),
        labels,
        config["num_classes"],
        config["rate"],
        np.random.RandomState(config["seed"]),
        config["norm_std"],
    )
    return {
        "flip_rate": found.flip_rates,
        "W_first": found.projections[0, 0],
        "W_class": found.projections.double().sum((1, 2)),
        "P": found.probabilities,
        "noisy": found.labels,
        "transition_counts": label_noise.transition_counts(labels, found.labels, config["num_classes"]),
    }


for family in ("noise_idn_uint8", "noise_idn_float"):
    handles("gnl", family, uses=("datamodules.label_noise.instance_noise", COUNTED[0]))(noise_idn)
