"""LCKD's cases."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import losses.distillation as distillation
import zoo.methods.lckd.election as election
from tests.parity.handlers.shaspec import mode_draws
from tests.parity.harness import Case, handles

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
