"""LCKD's cases; MCKD's handlers share what both have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

import losses.distillation as distillation
import losses.segmentation as segmentation
import zoo.methods.lckd.election as election
import zoo.tasks.volume_segmentation as task
from tests.parity.handlers.shaspec import mode_draws
from tests.parity.harness import Case, handles
from tests.parity.volumes import imported, modalities, moments
from zoo.checkpoints import Rule, apply_rules
from zoo.methods.lckd.module import LCKD
from zoo.methods.lckd.official import RULES
from zoo.networks.unet3d_mean_filled import MeanFilledUNet3d

handles("lckd", "mode_draws", uses=("zoo.networks.availability.draw_availability",))(mode_draws)


def flags(modalities: list[int], count: int) -> Tensor:
    """Bool [count], true for these modalities."""
    return torch.tensor([number in modalities for number in range(count)])


@handles("lckd", "kd_loss", uses=("losses.distillation.pairwise_l1", "zoo.methods.lckd.election.teaching"))
def kd_loss(case: Case) -> dict[str, Any]:
    values, gradients, samples = [], [], case.config["N"]
    for available in case.config["available"]:
        for teachers in case.config["teachers"]:
            features = case.inputs["features"].clone().requires_grad_()
            stacked = features.unflatten(0, (samples, -1)).transpose(0, 1)
            taught = election.teaching(flags(teachers, len(stacked)), flags(available, len(stacked)))
            value = distillation.pairwise_l1(stacked, taught)
            value.backward()
            values.append(value.detach())
            gradients.append(features.grad)
    return {"kd": torch.stack(values), "grad": torch.stack(gradients)}


class Stub:
    """The network that the election's case describes."""

    def encode_zero(self, size: Sequence[int], like: Tensor) -> None:
        return None

    def encode(self, images: Tensor, available: list[list[int]], zero: None) -> Tensor:
        return images

    def decode(self, images: Tensor, available: list[list[int]]) -> Tensor:
        ((k,),), x = available, images.unbind(1)
        return torch.stack([x[k] * (1 + 0.3 * k) - 0.2, 0.8 * x[3 - k] + 0.1 * k, x[(k + 2) % 4] - 0.1 * k], 1)


@handles("lckd", "teacher_election", uses=("zoo.methods.lckd.election.winners", "zoo.metrics.region_dice.region_dice"))
def teacher_election(case: Case) -> dict[str, Any]:
    pairs = zip(case.inputs["volumes"], case.inputs["labels"], strict=True)
    scores = sum(election.single_modality_dice(Stub(), volume, label, (8, 12, 12)) for volume, label in pairs)
    tables = (case.inputs["tables"] * 10).round() / 10
    bits = 2 ** torch.arange(tables.shape[2])
    return {
        "scores": scores,
        "winners": election.winners(scores),
        "table_winners": torch.stack([election.winners(table) for table in tables]),
        "table_teachers": torch.stack([(election.elect(table) * bits).sum() for table in tables]),
    }


# -- whole models -----------------------------------------------------------------------------------------------------


@torch.no_grad()
def sweep(network: MeanFilledUNet3d, images: Tensor, modes: Sequence[str]) -> dict[str, Tensor]:
    """Logits for availability strings, from volumes that are encoded once."""
    samples, count = images.shape[:2]
    everything = network.encode(
        images, modalities(range(count), samples), network.encode_zero(images.shape[2:], images)
    )
    return {mode: network.decode(everything, modalities(mode, samples)) for mode in modes}


def single_precision(method: type[task.VolumeSegmentationModule], case: Case) -> dict[str, Any]:
    modes = [name.removeprefix("logits_") for name in case.outputs if not name.endswith("_stats")]
    logits = sweep(imported(method, case).network, case.inputs["image"], modes)
    return {f"logits_{mode}{suffix}": of(logits[mode]) for mode in modes for suffix, of in SUMMARIES.items()}


SUMMARIES: dict[str, Callable[[Tensor], Tensor]] = {"": lambda logits: logits, "_stats": moments}


def double_precision(method: type[task.VolumeSegmentationModule], case: Case) -> dict[str, Any]:
    network, modes = imported(method, case).double().network, case.config["modes"]
    logits = sweep(network, case.inputs["image15"].double(), modes)
    return {"logits": [logits[mode] for mode in modes], "logits_stats": torch.stack([*map(moments, logits.values())])}


def spied(decoder: nn.Module, label: Tensor, run: Callable[[], Any]) -> tuple[Any, Tensor, Tensor]:
    """What `run` gives, and Dice loss and cross-entropy of the logits that the decoder gave in it."""
    seen: list[Tensor] = []
    hook = decoder.register_forward_hook(lambda module, inputs, logits: seen.append(logits.detach()))
    found = run()
    hook.remove()
    return found, segmentation.soft_dice(*seen, label), segmentation.region_bce(*seen, label)


def step(model: Any, image: Tensor, label: Tensor, mode: str) -> Tensor:
    """Backward of the total; it with its terms: total, dice, bce, kd."""
    model.zero_grad()
    terms, dice, bce = spied(
        model.network.decoder, label, lambda: model.terms(image, label, modalities(mode, len(image)))
    )
    total = model.total(terms, {"id": ["case"] * len(image)})
    total.backward()
    return torch.stack([total.detach(), dice, bce, terms["distil"].detach()])


def norms(model: nn.Module, case: Case, rules: Sequence[Rule], *, gradients: bool = False) -> Tensor:
    """L2 norms of all of the case's tensors, or of their gradients: -1 where there is none."""
    published = {key: torch.empty(0) for key, *_ in case.facts["state"]}
    ours = {source: key for key, source in apply_rules(published, rules).sources.items()}
    used = {key: model.get_parameter(ours[key]) for key in published if key in ours}
    if not gradients:
        return torch.stack([used.get(key, value).detach().double().norm() for key, value in case.state.items()])
    given = (used[key].grad if key in used else None for key in published)
    return torch.stack([torch.tensor(-1.0).double() if gradient is None else gradient.norm() for gradient in given])


def weights(case: Case) -> dict[str, Any]:
    """The weight that the case names, as a recipe would set it."""
    return {"distil": {"weight": case.config["kd_weight"]}}


@handles("lckd", "model_eval", uses=("zoo.networks.availability.fill_with_mean",))
def model_eval(case: Case) -> dict[str, Any]:
    return single_precision(LCKD, case)


@handles("lckd", "model_eval_fp64", uses=("zoo.networks.availability.fill_with_mean",))
def model_eval_fp64(case: Case) -> dict[str, Any]:
    return double_precision(LCKD, case)


def teach(model: LCKD, teachers: str) -> None:
    model.teachers = flags([int(digit) for digit in teachers.split(",")], len(model.modalities))


@handles("lckd", "train_grads", uses=("losses.distillation.pairwise_l1",))
def train_grads(case: Case) -> dict[str, Any]:
    model = imported(LCKD, case, losses=weights(case)).double()
    image, label = case.inputs["image"].double(), case.inputs["label"].double()
    rows, gradients = [], []
    for mode, teachers in case.config["runs"]:
        teach(model, teachers)
        rows.append(step(model, image, label, mode))
        gradients.append(norms(model, case, RULES, gradients=True))
    return {"losses": torch.stack(rows), "grad_norms": torch.stack(gradients)}


@handles("lckd", "train_traj", uses=("losses.distillation.pairwise_l1",))
def train_traj(case: Case) -> dict[str, Any]:
    model = imported(LCKD, case, losses=weights(case))
    optimizer, rows = task.published_sgd(model.parameters()), []
    for number in range(len(case.config["modes"])):
        teach(model, case.config["teachers"][number])
        rows.append(published_step(model, case, number, optimizer))
    return {"losses": torch.stack(rows), "param_norms": norms(model, case, RULES)}


def published_step(model: Any, case: Case, number: int, optimizer: torch.optim.Optimizer) -> Tensor:
    """One step of a trajectory; learning rate and losses."""
    config, inputs = case.config, case.inputs
    lr = config["base_lr"] * task.poly(config["start_iter"] + number, config["num_steps"], config["power"])
    optimizer.param_groups[0]["lr"] = lr
    losses = step(model, inputs[f"image{number}"], inputs[f"label{number}"], config["modes"][number])
    optimizer.step()
    return torch.cat([torch.tensor([lr]), losses])
