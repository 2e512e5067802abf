"""MCKD's cases."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import losses.distillation as distillation
import zoo.methods.mckd.importance as importance
import zoo.tasks.volume_segmentation as task
from tests.parity.handlers import lckd
from tests.parity.handlers.shaspec import mode_draws
from tests.parity.harness import Case, handles
from tests.parity.volumes import imported, modalities, moments
from zoo.methods.mckd.module import MCKD
from zoo.methods.mckd.official import RULES

handles("mckd", "mode_draws", uses=("zoo.networks.availability.draw_availability",))(mode_draws)


@handles("mckd", "kd_loss", uses=("losses.distillation.pairwise_l1", "zoo.methods.mckd.importance.teaching"))
def kd_loss(case: Case) -> dict[str, Any]:
    values, gradients, (raw,) = [], [], case.state.values()
    for available in case.config["available"]:
        features = case.inputs["features"].clone().requires_grad_()
        stacked = features.unflatten(0, (case.config["N"], -1)).transpose(0, 1)
        value = distillation.pairwise_l1(stacked, importance.teaching(raw, lckd.flags(available, len(raw))))
        value.backward()
        values.append(value.detach())
        gradients.append(features.grad)
    return {"kd": torch.stack(values), "grad": torch.stack(gradients)}


@handles("mckd", "model_eval", uses=("zoo.networks.availability.fill_with_mean",))
def model_eval(case: Case) -> dict[str, Any]:
    return lckd.single_precision(MCKD, case)


@handles("mckd", "model_eval_fp64", uses=("zoo.networks.availability.fill_with_mean",))
def model_eval_fp64(case: Case) -> dict[str, Any]:
    return lckd.double_precision(MCKD, case)


@handles("mckd", "train_grads", uses=("zoo.methods.mckd.importance.teaching",))
def train_grads(case: Case) -> dict[str, Any]:
    model = imported(MCKD, case, losses=lckd.weights(case)).double()
    image, label = case.inputs["image"].double(), case.inputs["label"].double()
    rows, gradients = [], []
    for mode, _ in case.config["runs"]:
        rows.append(lckd.step(model, image, label, mode))
        gradients.append(lckd.norms(model, case, RULES, gradients=True))
    return {"losses": torch.stack(rows), "grad_norms": torch.stack(gradients)}


@handles("mckd", "iwv_forward", uses=("zoo.methods.mckd.importance.importance",))
def iwv_forward(case: Case) -> dict[str, Any]:
    model, image, label = imported(MCKD, case), case.inputs["image"], case.inputs["label"]
    raw = model.raw_importance.detach().requires_grad_()
    w = importance.importance(raw)
    logits = model.meta_logits(image, modalities(case.config["mode"], len(image)), w)
    loss = model.losses.task(logits, label)
    (gradient,) = torch.autograd.grad(loss, raw)
    return {
        "logits": logits,
        "logits_stats": moments(logits),
        "weights": w,
        "loss": torch.stack([loss, torch.zeros(())]),
        "d_kd_weights": gradient,
    }


def meta_learner(case: Case, **arguments: Any) -> tuple[MCKD, torch.optim.Optimizer]:
    """The model with the case's weights, whose meta phases use all modalities, and its meta-optimizer."""
    model = imported(MCKD, case, stages=[{"name": "all", "available": "all"}], **arguments)
    adam = model.meta_optimizer([model.raw_importance])
    model.optimizers = lambda use_pl_optimizer: [None, adam]
    return model, adam


def meta_step(model: MCKD, image: Tensor, label: Tensor) -> Tensor:
    """One step of the importance weights: its loss, dice, bce."""
    batch = {
        "modalities": dict(zip(model.modalities, image.split(1, dim=1), strict=True)),
        "present": {name: torch.ones(len(image), dtype=torch.bool) for name in model.modalities},
        "mask": label,
    }
    return torch.stack(lckd.spied(model.network.decoder, label, lambda: model.meta_step(batch)))


@handles("mckd", "meta_step", uses=("zoo.methods.mckd.importance.importance",))
def meta_steps(case: Case) -> dict[str, Any]:
    (model, adam), inputs = meta_learner(case), case.inputs
    raws, rows = [model.raw_importance.detach().clone()], []
    for number in range(case.config["batches"]):
        rows.append(meta_step(model, inputs[f"image{number}"], inputs[f"label{number}"]))
        raws.append(model.raw_importance.detach().clone())
    moments_of = adam.state[model.raw_importance]
    return {
        "kd_weights": torch.stack(raws),
        "losses": torch.stack(rows),
        "adam_exp_avg": moments_of["exp_avg"],
        "adam_exp_avg_sq": moments_of["exp_avg_sq"],
    }


@handles("mckd", "train_traj", uses=("zoo.methods.mckd.importance.importance",))
def train_traj(case: Case) -> dict[str, Any]:
    (model, _), inputs = meta_learner(case, losses=lckd.weights(case)), case.inputs
    optimizer = task.published_sgd([p for p in model.parameters() if p.requires_grad])
    phase = sum(name.startswith("meta_image") for name in case.facts["inputs"])
    rows, raws = [], []
    for number in range(len(case.config["modes"])):
        rows.append(lckd.published_step(model, case, number, optimizer))
        for other in range(phase if number == 0 else 0):
            meta_step(model, inputs[f"meta_image{other}"], inputs[f"meta_label{other}"])
        raws.append(model.raw_importance.detach().clone())
    return {
        "losses": torch.stack(rows),
        "param_norms": lckd.norms(model, case, RULES),
        "kd_weights": torch.stack(raws),
    }
