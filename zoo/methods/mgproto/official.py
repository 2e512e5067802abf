"""Published checkpoints of MGProto: a plain state dict of the released model."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from zoo.checkpoints import Official, Rule, apply_rules
from zoo.core.errors import CheckpointError
from zoo.state.prototype_sources import PrototypeSources


def own_block(weight: Tensor) -> Tensor:
    """Priors, in a linear layer [C, C·K] that is zero outside each class's own block, to [C, K]."""
    number = torch.arange(len(weight))
    return weight.unflatten(1, (len(weight), -1))[number, number]


RULES = (
    Rule(r"^features\.", "network.backbone.body."),  # `features.features.` of DenseNets and VGGs keeps one
    Rule(r"^add_on_layers\.", "network.add_on."),
    Rule(r"^embedding\.", "network.embedding."),
    Rule(r"^prototype_means$", "network.mixture.means"),
    Rule(r"^prototype_covs$", "network.mixture.variances", transform=torch.square),  # it holds standard deviations
    Rule(r"^last_layer\.weight$", "network.mixture.priors", transform=own_block),
    Rule(r"^iteration_counter$", drop=True),
    Rule(r"^queue\.mem_len$", "queue.count"),
)


def rename(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """A published state dict to our keys.

    A queue per class becomes one tensor: their rows stand from oldest to newest. What was not saved starts afresh:
    moments of EM's optimizer, and where prototypes were projected from.

    Raises:
        CheckpointError: if it is none of MGProto.
    """
    ours = apply_rules(tensors, RULES).tensors
    rows = {int(match[1]): ours.pop(key) for key in [*ours] if (match := re.fullmatch(r"queue\.cls(\d+)", key))}
    means, count = ours["network.mixture.means"], ours["queue.count"]
    if sorted(rows) != list(range(len(means))):
        raise CheckpointError(f"it holds the queues of {len(rows)} classes, and prototypes of {len(means)}.")
    ours["queue.features"] = torch.stack([rows[number] for number in range(len(means))])
    ours["queue.pointer"] = count % ours["queue.features"].shape[1]
    sources = PrototypeSources(*means.shape[:2])
    ours |= {f"sources.{name}": buffer for name, buffer in sources.named_buffers()}
    ours["em.exp_avg"], ours["em.exp_avg_sq"] = torch.zeros_like(means), torch.zeros_like(means)
    ours["em.steps"] = torch.zeros(len(means), dtype=torch.int64)
    ours["em.pending"] = torch.zeros(len(means), dtype=torch.bool)
    return ours


OFFICIAL = Official(rename, version=1)
