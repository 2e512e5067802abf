"""What handlers of ShaSpec, LCKD and MCKD share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from tests.parity.harness import Case
from zoo.checkpoints import apply_rules, import_state
from zoo.tasks.volume_segmentation import VolumeSegmentationModule


def imported(method: type[VolumeSegmentationModule], case: Case, **arguments: Any) -> Any:
    """The method's module with the case's published weights."""
    size = next(case.facts["inputs"][name]["shape"] for name in case.facts["inputs"] if name.startswith("image"))
    regions = [f"region{number}" for number in range(case.config["num_classes"])]
    model = method(regions=regions, window=size[-3:], **arguments)
    import_state(model, case.state, method.official.rules)
    model.network.share_zero = False  # published numbers contain the rounding of each zero volume
    del case.__dict__["state"]  # generated again if asked for; float64 copies need the memory
    return model


def modalities(mode: str | Iterable[int], samples: int) -> list[list[int]]:
    """`2,0` or `20`: the available modalities of each sample."""
    digits = mode.replace(",", "") if isinstance(mode, str) else mode
    return [[int(digit) for digit in digits]] * samples


def moments(value: Tensor) -> Tensor:
    """Mean and population standard deviation."""
    return torch.stack([value.mean(), value.std(correction=0)])


def norms(model: VolumeSegmentationModule, case: Case, *, gradients: bool = False) -> Tensor:
    """L2 norms of all parameters, or of their gradients (-1 where there is none), in the order of the case's state."""
    published = {key: torch.empty(0) for key, *_ in case.facts["state"]}
    ours = {source: key for key, source in apply_rules(published, model.official.rules).sources.items()}
    parameters = dict(model.named_parameters())
    found = [parameters[ours[key]] for key in published]
    if gradients:
        return torch.stack([p.new_tensor(-1.0) if p.grad is None else p.grad.norm() for p in found])
    return torch.stack([p.detach().double().norm() for p in found])
