"""Counts what would make the host wait for the device, also where there is none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

READ = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive"}


class Synchronisations(TorchDispatchMode):
    """Inside, `seen` lists the operations whose result the host must wait for: a number read from a tensor (`.item()`,
    `if tensor:`), a shape that depends on values (`x[mask]`, `unique`). Copies between devices are not seen."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = func.name().removeprefix("aten::").partition(".")[0]
        masks = name in ("index", "index_put", "index_put_") and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        if name in READ or masks:
            self.seen.append(name)
        return func(*args, **(kwargs or {}))
