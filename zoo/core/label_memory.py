"""What was predicted for each training sample, or is believed of its label."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo.core.distributed import gather_rows
from zoo.core.errors import DataError


class LabelMemory(nn.Module):
    """One row of numbers per sample of the training split, the same on all ranks.

    Args:
        num_samples: length of the training split, N.
        dim: numbers per sample, D; often the number of classes.
        initial: value of all rows before their first update.

    Attributes:
        values: [N, D].
        seen: bool [N], whether a row was ever updated.
    """

    values: Tensor
    seen: Tensor

    def __init__(self, num_samples: int, dim: int, initial: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("values", torch.full((num_samples, dim), initial))
        self.register_buffer("seen", torch.zeros(num_samples, dtype=torch.bool))

    def __getitem__(self, index: Tensor) -> Tensor:
        """Rows [B, D] of the samples `index`, int64 [B]."""
        return self.values[index]

    @torch.no_grad()
    def update(self, index: Tensor, values: Tensor, momentum: float | None = None) -> None:
        """Write the rows of all ranks' samples.

        A collective: all ranks call it. A sample that occurs more than once (a padded batch) is updated once, with
        its last value in rank order.

        Args:
            index: int64 [B], positions in the split; B may differ between ranks.
            values: float [B, D].
            momentum: m in `row <- m * row + (1 - m) * value`; `None` overwrites.

        Raises:
            DataError: if an index is outside the memory (on the CPU alone: elsewhere the check would synchronise).
        """
        index, values = gather_rows(index), gather_rows(values.to(self.values.dtype))
        size = len(self.values)
        if index.device.type == "cpu" and not ((index >= 0) & (index < size)).all():
            raise DataError(
                f"A label memory of {size} samples got the indices {index.min()} to {index.max()}. It must be as long "
                "as the split whose samples it remembers."
            )
        index, order = index.sort(stable=True)
        # Repeated indices all write the value of the last one, so that the order of writing is of no account.
        values = values[order][torch.searchsorted(index, index, right=True) - 1]
        if momentum is not None:
            values = torch.lerp(values, self.values[index], momentum)
        self.values[index] = values
        self.seen[index] = True
