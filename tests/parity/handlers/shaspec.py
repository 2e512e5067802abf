"""ShaSpec's cases; the BraTS pipeline of its family is among them."""

from __future__ import annotations

import random
from typing import Any

import torch

import datamodules.brats as brats
import losses.alignment as alignment
import losses.classification as classification
import zoo.metrics.region_dice as region_dice
import zoo.networks.availability as availability
from tests.parity.harness import Case, handles


@handles("shaspec", "labels", uses=("datamodules.brats.labels_to_regions", "datamodules.brats.regions_to_labels"))
def labels(case: Case) -> dict[str, Any]:
    raw = torch.tensor([0, 1, 2, 4])[case.inputs["raw_index"]]
    return {
        "channels": brats.labels_to_regions(raw),
        "segmentation": brats.regions_to_labels(case.inputs["prob"]),
    }


@handles("shaspec", "dice_labels", uses=("zoo.metrics.region_dice.region_dice",))
def dice_labels(case: Case) -> dict[str, Any]:
    logits, target = case.inputs["logits"].clone(), case.inputs["label"].clone()
    target[0, 0] = target[1, 2] = 0
    logits[1, 2] = -20
    smooth, probabilities = case.config["smooth_denominator"], logits.sigmoid()
    return {
        "soft": region_dice.region_dice(probabilities, target, smooth=smooth),
        "hard": region_dice.region_dice(probabilities.round(), target, smooth=smooth),
    }


@handles("shaspec", "loss_aux", uses=("losses.alignment.ring_l1", "losses.classification.cross_entropy"))
def loss_aux(case: Case) -> dict[str, Any]:
    samples, modalities = case.config["N"], case.config["modalities"]
    shared = case.inputs["shared"].clone().requires_grad_()
    domain = case.inputs["dom"].clone().requires_grad_()
    align_loss = alignment.ring_l1(shared.unflatten(0, (samples, modalities)).transpose(0, 1))
    domain_loss = classification.cross_entropy(domain, torch.arange(modalities).repeat(samples))
    (case.config["alpha"] * align_loss + case.config["beta"] * domain_loss).backward()
    return {"align": align_loss, "domain": domain_loss, "shared_grad": shared.grad, "dom_grad": domain.grad}


@handles("shaspec", "mode_draws", uses=("zoo.networks.availability.draw_availability",))
def mode_draws(case: Case) -> dict[str, Any]:
    modalities = case.outputs["draws"]["shape"][-1]
    rows = torch.full((len(case.config["seeds"]), case.config["draws"], modalities), -1)
    for seed, row in zip(case.config["seeds"], rows, strict=True):
        rng = random.Random(seed)
        for draw in row:
            available = availability.draw_availability(rng, modalities, case.config["max_available"])
            draw[: len(available)] = torch.tensor(available)
    return {"draws": rows}
