"""ShaSpec's cases; the BraTS pipeline of its family is among them."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor

import datamodules.brats as brats
import datamodules.volumes.cleaning as cleaning
import losses.alignment as alignment
import losses.classification as classification
import losses.segmentation as segmentation
import zoo.metrics.region_dice as region_dice
import zoo.networks.availability as availability
import zoo.networks.sliding_window as windows
import zoo.tasks.volume_segmentation as task
from tests.parity.harness import Case, handles
from tests.parity.volumes import imported, modalities, moments, norms
from zoo.methods.shaspec.volume_module import ShaSpec
from zoo.methods.shaspec.volume_network import ShaSpecVolumeNet


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


@handles("shaspec", "loss_seg", uses=("losses.segmentation.soft_dice", "losses.segmentation.region_bce"))
def loss_seg(case: Case) -> dict[str, Any]:
    logits, target = case.inputs["logits"].clone().requires_grad_(), case.inputs["label"].clone()
    target[0, 0] = 0
    dice = segmentation.soft_dice(logits, target, smooth=case.config["smooth"])
    bce = segmentation.region_bce(logits, target)
    soft = region_dice.RegionDice(target.shape[1])
    soft.update(logits.detach().sigmoid(), target)
    return {
        "dice": dice,
        "bce": bce,
        "dice_grad": torch.autograd.grad(dice, logits)[0],
        "bce_grad": torch.autograd.grad(bce, logits)[0],
        "soft_dice_metric": soft.compute(),
    }


@handles("shaspec", "fusion", uses=("zoo.networks.unet3d.StandardisedConv3d.forward",))
def fusion(case: Case) -> dict[str, Any]:
    channels = case.config["channels"]
    network = ShaSpecVolumeNet(modalities=1, regions=1, width=channels // 4)
    network.fusion.load_state_dict({"weight": case.state["compos_layer.conv.weight"]})
    shared, specific = (case.inputs[name].clone().requires_grad_() for name in ("shared", "specific"))
    out = network.fuse(shared, specific)
    (out * case.inputs["probe"]).sum().backward()
    found = {"out": out, "d_shared": shared.grad, "d_specific": specific.grad}
    weight = network.fusion.weight.grad.norm()[None]
    return found | {f"{name}_stats": moments(value) for name, value in found.items()} | {"d_weight_norm": weight}


@handles("shaspec", "model_eval", uses=("zoo.networks.unet3d.Decoder3d.forward",))
def model_eval(case: Case) -> dict[str, Any]:
    images = case.inputs["image"]
    network = imported(ShaSpec, case).network
    modes = [name.removeprefix("logits_") for name in case.outputs if name.startswith("logits_")]
    found = _sweep(network, images, [mode for mode in modes if mode.isdigit()])
    volumes = images.flatten(0, 1)[:, None]
    found |= {f"stage{stage}": value for stage, value in enumerate(network.shared_encoder.backbone(volumes))}
    return found | {f"{name}_stats": moments(value) for name, value in found.items()}


@handles("shaspec", "model_eval_fp64", uses=("zoo.networks.unet3d.Encoder3d.reduce",))
def model_eval_fp64(case: Case) -> dict[str, Any]:
    images = case.inputs["image15"].double()
    network = imported(ShaSpec, case).double().network
    found = _sweep(network, images, case.config["modes"])
    rows = {name: [found[f"{name}_{mode}"] for mode in case.config["modes"]] for name in ("logits", "shared", "dom")}
    stats = {f"{name}_stats": torch.stack([*map(moments, values)]) for name, values in rows.items()}
    return stats | rows | {"dom": torch.stack(rows["dom"])}


@torch.no_grad()
def _sweep(network: ShaSpecVolumeNet, images: Tensor, modes: list[str]) -> dict[str, Tensor]:
    """Logits, shared features and domain logits for availability strings, from volumes that are encoded once."""
    samples, count = images.shape[:2]
    zero = network.encode_zero(images.shape[2:], images)
    everything = network.encode(images, modalities(range(count), samples), zero)
    domain = network.domain_logits(everything, images)
    missing = network.domain_logits(network.encode(images, modalities([], samples), zero), images)
    found = {}
    for mode in modes:
        available = modalities(mode, samples)
        there = torch.tensor([m in available[0] for m in range(count)])
        found[f"logits_{mode}"] = network.decode(everything, available)
        found[f"shared_{mode}"] = network.shared_features(everything, available).flatten(0, 1)
        found[f"dom_{mode}"] = torch.where(there[:, None], domain, missing).flatten(0, 1)
    return found


def _terms(model: ShaSpec, image: Tensor, label: Tensor, mode: str) -> tuple[Tensor, list[Tensor]]:
    """The total, and it with its terms: total, dice, bce, align, domain."""
    seen: list[Tensor] = []
    handle = model.network.decoder.register_forward_hook(lambda module, inputs, logits: seen.append(logits.detach()))
    terms = model.terms(image, label, modalities(mode, len(image)))
    handle.remove()
    total = model.total(terms, {"id": ["case"] * len(image)})
    dice, bce = segmentation.soft_dice(*seen, label), segmentation.region_bce(*seen, label)
    return total, [total.detach(), dice, bce, terms["align"].detach(), terms["domain"].detach()]


def _weights(case: Case) -> dict[str, Any]:
    """The weights that the case names, as a recipe would set them."""
    names = {"alpha": "align", "beta": "domain"}
    return {slot: {"weight": case.config[name]} for name, slot in names.items() if name in case.config}


@handles("shaspec", "train_grads", uses=("zoo.methods.shaspec.volume_module.ShaSpec.terms",))
def train_grads(case: Case) -> dict[str, Any]:
    model = imported(ShaSpec, case, losses=_weights(case)).double()
    total, losses = _terms(model, case.inputs["image"].double(), case.inputs["label"].double(), case.config["mode"])
    total.backward()
    return {"losses": torch.stack(losses), "grad_norms": norms(model, case, gradients=True)}


@handles("shaspec", "train_traj", uses=("zoo.tasks.volume_segmentation.poly",))
def train_traj(case: Case) -> dict[str, Any]:
    config = case.config
    model = imported(ShaSpec, case, losses=_weights(case))
    optimizer, rows = task.published_sgd(model.parameters()), []
    for step, mode in enumerate(config["modes"]):
        lr = config["base_lr"] * task.poly(config["start_iter"] + step, config["num_steps"], config["power"])
        optimizer.param_groups[0]["lr"] = lr
        optimizer.zero_grad()
        total, losses = _terms(model, case.inputs[f"image{step}"], case.inputs[f"label{step}"], mode)
        total.backward()
        optimizer.step()
        rows.append(torch.stack([total.new_tensor(lr), *losses]))
    return {"losses": torch.stack(rows), "param_norms": norms(model, case)}


@handles("shaspec", "sliding_window", uses=("zoo.networks.sliding_window.sliding_window",))
def sliding_window(case: Case) -> dict[str, Any]:
    size, window = case.config["volume"], case.config["tile"]
    places = torch.stack(torch.meshgrid(*(torch.arange(side) for side in size), indexing="ij"))[None].float()
    ramp = sum(
        (torch.arange(side) / (side * number)).view([-1 if axis == number - 1 else 1 for axis in range(3)])
        for number, side in enumerate(window, start=1)
    )
    starts: list[Tensor] = []

    def stub(tile: Tensor) -> Tensor:
        """The network that the case describes; the last three channels say where the tile lies."""
        starts.append(tile[0, 4:, 0, 0, 0])
        mean = tile[:, :4].mean(1)
        return torch.stack([2 * mean + ramp, -mean + 2 * ramp - 1, mean * ramp], 1)

    image = torch.cat([case.inputs["image"], places], 1)
    logits = windows.sliding_window(stub, image, window)
    probabilities = windows.sliding_window(lambda tile: stub(tile).sigmoid(), image, window)
    grid = torch.full(case.outputs["grid"]["shape"], -1.0)
    for axis, row in enumerate(torch.stack(starts).T):
        row = row.unique()
        grid[axis, : len(row)] = row
    found = {"logit_average": logits, "probability_average": probabilities[0].permute(1, 2, 3, 0)}
    return found | {f"{name}_stats": moments(value) for name, value in found.items()} | {"grid": grid}


@handles("shaspec", "postprocess", uses=("datamodules.volumes.cleaning.clean",))
def postprocess(case: Case) -> dict[str, Any]:
    maps = case.inputs["label_maps"].numpy()
    stripes = np.where(np.arange(maps.shape[1]) % 2 == 0, 100, 200)[:, None, None]
    scans = [stripes * (number == 1) + np.zeros(maps.shape[1:]) for number in range(len(maps))]
    return {"result": np.stack([cleaning.clean(labels, scan) for labels, scan in zip(maps, scans, strict=True)])}


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
