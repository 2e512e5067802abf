"""GPU memory that training ShaSpec's published network on its published crop takes, computed on any machine.

    python benchmarks/volume_memory.py [--checkpointing] [--width 64]

What autograd keeps for the backward pass is counted by hooks at two small crops. All but a few tensors grow with the
voxels of the crop, so that two points give the bytes at 80×160×160: standardised weights stay, activations grow.
Weights, gradients and momentum are added. Convolution workspaces are not in it; they are freed within the step.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from zoo.methods.shaspec.volume_module import ShaSpec

CROPS = ((16, 64, 64), (32, 64, 64))
PUBLISHED = (80, 160, 160)


def kept_bytes(model: ShaSpec, crop: tuple[int, int, int]) -> int:
    """Bytes that a training step with all modalities (the largest) keeps at once for its backward pass."""
    storages: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
    images, mask = torch.randn(1, 4, *crop), torch.zeros(1, 3, *crop)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        terms = model.terms(images, mask, [[0, 1, 2, 3]])
    assert terms  # holds the graph, and with it what is counted, until here
    return sum(size for pointer, size in storages.items() if pointer not in parameters)


def needed(width: int, checkpointing: bool) -> dict[str, float]:
    """GB by what they are for, at the published crop, float32."""
    model = ShaSpec(width=width, checkpointing=checkpointing)
    voxels = [torch.Size(crop).numel() for crop in (*CROPS, PUBLISHED)]
    small, large = (kept_bytes(model, crop) for crop in CROPS)
    per_voxel = (large - small) / (voxels[1] - voxels[0])
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    found = {
        "weights": weights,
        "gradients": weights,
        "momentum": weights,
        "kept, whatever the crop (standardised weights)": small - per_voxel * voxels[0],
        "kept, activations": per_voxel * voxels[2],
    }
    return {name: size / 1e9 for name, size in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--checkpointing", action="store_true")
    asked = parser.parse_args()
    found = needed(asked.width, asked.checkpointing)
    for name, size in {**found, "in all": sum(found.values())}.items():
        print(f"{name:50}{size:8.2f} GB")


if __name__ == "__main__":
    main()
