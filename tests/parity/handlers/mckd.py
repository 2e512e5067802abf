"""MCKD's cases."""

from __future__ import annotations

from typing import Any

import torch

import losses.distillation as distillation
import zoo.methods.mckd.importance as importance
from tests.parity.handlers.lckd import flags
from tests.parity.handlers.shaspec import mode_draws
from tests.parity.harness import Case, handles

handles("mckd", "mode_draws", uses=("zoo.networks.availability.draw_availability",))(mode_draws)


@handles("mckd", "kd_loss", uses=("losses.distillation.pairwise_l1", "zoo.methods.mckd.importance.teaching"))
def kd_loss(case: Case) -> dict[str, Any]:
    values, gradients, (raw,) = [], [], case.state.values()
    for available in case.config["available"]:
        features = case.inputs["features"].clone().requires_grad_()
        stacked = features.unflatten(0, (case.config["N"], -1)).transpose(0, 1)
        value = distillation.pairwise_l1(stacked, importance.teaching(raw, flags(available, len(raw))))
        value.backward()
        values.append(value.detach())
        gradients.append(features.grad)
    return {"kd": torch.stack(values), "grad": torch.stack(gradients)}
