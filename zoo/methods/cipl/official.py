"""Published checkpoints of CIPL: a plain state dict of the released model, teacher included."""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.checkpoints import Official, Rule, apply_rules
from zoo.core.errors import CheckpointError
from zoo.state.prototype_sources import PrototypeSources

RULES = (
    Rule(r"^ones$", drop=True),  # a constant
    Rule(r"^features(_ema)?\.features\.norm5\.", drop=True),  # the map is taken before it
    Rule(r"^(features|add_on_layers|prototype_vectors|last_layer)_ema(?=\.|$)", r"network.teacher.\1"),
    Rule(r"^(features|add_on_layers|prototype_vectors|last_layer)(?=\.|$)", r"network.student.\1"),
    Rule(r"\.features\.toplayer\.", ".neck."),
    Rule(r"(student|teacher)\.features\.", r"\1.backbone.body."),
    Rule(r"\.add_on_layers\.", ".add_on."),
    Rule(r"\.prototype_vectors$", ".prototypes"),
)


def rename(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """A published state dict to our keys.

    A teacher whose BatchNorm has not counted a batch has not begun: files of the first stage hold the initial network
    in its place. What was not saved starts afresh: where prototypes were projected from.

    Raises:
        CheckpointError: if it is none of CIPL.
    """
    ours = apply_rules(tensors, RULES).tensors
    for side in ("student", "teacher"):
        points, weight = (ours.get(f"network.{side}.{key}") for key in ("prototypes", "last_layer.weight"))
        if (
            points is None
            or weight is None
            or weight.dim() != 2
            or len(points) != weight.shape[1]
            or (len(points) % max(len(weight), 1))
        ):
            raise CheckpointError(f"its prototypes and last layer ({side}) are not those of CIPL.")
        ours[f"network.{side}.prototypes"] = points.flatten(1).unflatten(0, (len(weight), -1))
    counts = [ours[key] for key in ours if key.startswith("network.teacher") and key.endswith("num_batches_tracked")]
    ours["network.teacher_began"] = torch.tensor(any(bool(count > 0) for count in counts))
    sources = PrototypeSources(*ours["network.student.prototypes"].shape[:2])
    return ours | {f"sources.{name}": buffer for name, buffer in sources.named_buffers()}


OFFICIAL = Official(rename, version=1)
