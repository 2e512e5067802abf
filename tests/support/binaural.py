"""Small models for two ears, batches for them, and runs on a generated FAIR-Play that processes of tests can import."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from datamodules.binaural.fairplay import FAIRPlay
from zoo.methods.baselines.binaural import Mono2Binaural
from zoo.methods.ccstereo.module import CCStereo

SIZE = (64, 64)
WINDOW = 10_080


def ccstereo(**settings: Any) -> CCStereo:
    torch.manual_seed(0)
    return CCStereo(**{"backbone": "test_resnet", "width": 1, "frame_size": SIZE, **settings})


def mono2binaural(**settings: Any) -> Mono2Binaural:
    torch.manual_seed(0)
    return Mono2Binaural(**{"backbone": "test_resnet", "width": 2, "frame_size": SIZE, **settings})


def _batch(video: torch.Tensor, stereo: torch.Tensor, starts: torch.Tensor, places: torch.Tensor) -> dict[str, Any]:
    count, frames = video.shape[:2]
    return {
        "index": torch.arange(count),
        "id": [f"clip{number}" for number in range(count)],
        "modalities": {"video": video, "audio": stereo.sum(1)},
        "present": {name: torch.ones(count, dtype=torch.bool) for name in ("video", "audio")},
        "lengths": {"audio": torch.full((count,), stereo.shape[-1])},
        "sample_rate": {"audio": 16_000},
        "frame_number": torch.arange(frames).expand(count, -1),
        "window_start": starts.expand(count, -1),
        "window_frame": places.expand(count, -1),
        "stereo": stereo,
    }


def training_batch(count: int = 3, size: tuple[int, int] = SIZE, window: int = WINDOW) -> dict[str, Any]:
    draw = torch.Generator().manual_seed(1)
    video, stereo = torch.rand(count, 2, 3, *size, generator=draw), torch.randn(count, 2, window, generator=draw)
    return _batch(video, 0.1 * stereo, torch.tensor([0]), torch.tensor([1]))


def clip_batch(samples: int = 14_000, hop: int = 1008, count: int = 1, frames: int = 3) -> dict[str, Any]:
    """Whole clips; neighbouring windows share frames."""
    draw = torch.Generator().manual_seed(2)
    video = torch.rand(count, frames, 3, *SIZE, generator=draw)
    stereo = torch.randn(count, 2, samples, generator=draw)
    starts = torch.arange(max(0, -(-(samples - WINDOW) // hop)) + 1) * hop
    return _batch(video, 0.1 * stereo, starts, torch.arange(len(starts)) * frames // len(starts))


class FrozenStatistics(CCStereo):
    """Batch statistics are each rank's own; without them, two ranks compute what one does."""

    def train(self, mode: bool = True) -> FrozenStatistics:
        super().train(mode)
        for part in self.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.eval()
        return self


def _data(root: Path | None, batch_size: int) -> FAIRPlay:
    return FAIRPlay(root=root, demo=20, batch_size=batch_size, hop=0.315)


def run(data: Path | None) -> tuple[CCStereo, FAIRPlay]:
    return ccstereo(), _data(data, batch_size=4)


def frozen(data: Path, batch_size: int = 4) -> tuple[FrozenStatistics, FAIRPlay]:
    """Plain gradient descent: Adam blows rounding up where gradients are near zero."""
    torch.manual_seed(0)
    optimizer = partial(torch.optim.SGD, lr=0.01)
    model = FrozenStatistics("test_resnet", width=1, frame_size=SIZE, optimizer=optimizer)
    return model.train(), _data(data, batch_size)  # Lightning leaves modes as they are


def half_batch(data: Path) -> tuple[FrozenStatistics, FAIRPlay]:
    return frozen(data, batch_size=2)
