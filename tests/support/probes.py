"""What a run reports from inside its processes."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as L


def state(trainer: L.Trainer, model: L.LightningModule) -> dict[str, Any]:
    """Weights and buffers, as arrays (tensors would need shared memory to travel)."""
    return {"state": {key: value.detach().cpu().numpy() for key, value in model.state_dict().items()}}
