"""Deformation and changes of intensity of training crops, by MONAI, with the parameters of the ShaSpec family.

Published with batchgenerators: the probabilities, ranges and order are its; interpolation is linear where it was cubic
(the labels' too, as published: a region is where more than half of it is).
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.core.extras import require


def augment(image: Tensor, mask: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Deform, disturb and mirror a crop.

    Args:
        image: float32 [M, D, H, W], normalised.
        mask: uint8 [R, D, H, W], 0 or 1.

    Returns:
        Both, in the same shapes and dtypes.
    """
    image, mask = deform(image, mask, rng)
    image = disturb(image, rng)
    axes = [axis for axis in (1, 2, 3) if rng.random() < 0.5]
    return image.flip(axes), mask.flip(axes)


def deform(image: Tensor, mask: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Elastic deformation, rotation and scaling, each of one crop in five, in one interpolation; zeros from outside."""
    elastic, rotated, scaled = (rng.random(3) < 0.2).tolist()
    if not (elastic or rotated or scaled):
        return image, mask
    transforms = require("monai.transforms", "volumes")
    size = image.shape[1:]
    grid = transforms.utils.create_grid(size, backend="torch").float()  # voxels from the centre, homogeneous
    if elastic:
        grid[:3] += _displacements(size, rng.uniform(0, 900), rng.uniform(9, 13), rng)
    angles = np.deg2rad(rng.uniform(-15, 15, 3)).tolist() if rotated else None
    factor = [rng.uniform(0.85, 1.25)] * 3 if scaled else None
    if rotated or scaled:
        grid, _ = transforms.AffineGrid(rotate_params=angles, scale_params=factor)(grid=grid)
    resample = transforms.Resample(mode="bilinear", padding_mode="zeros")
    both = resample(torch.cat([image, mask.float()]), grid).as_subclass(Tensor)
    return both[: len(image)], (both[len(image) :] > 0.5).to(torch.uint8)


def _displacements(size: torch.Size, alpha: float, sigma: float, rng: np.random.Generator) -> Tensor:
    """White noise in [-1, 1], smoothed by a Gaussian of `sigma` voxels, times `alpha`: float32 [3, D, H, W], voxels.

    It is smooth over far more than 4 voxels, so it is drawn for every fourth in each direction, where noise of the
    same power after smoothing has an eighth of the amplitude: the distribution is the same, at 1/64 of the cost.
    """
    layers = require("monai.networks.layers", "volumes")
    noise = rng.uniform(-1 / 8, 1 / 8, (1, 3, *(-(-side // 4) for side in size))).astype(np.float32)
    coarse = layers.GaussianFilter(3, sigma / 4)(torch.from_numpy(noise))
    return alpha * F.interpolate(coarse, size, mode="trilinear")[0]


def disturb(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Noise, blur, brightness, contrast, resolution and gamma, in this order, most of them per modality."""
    channels = len(image)
    if rng.random() < 0.1:
        # The published "variance" from 0 to 0.1 was taken for the deviation.
        image = image + float(rng.uniform(0, 0.1)) * _normal(image.shape, rng)
    if rng.random() < 0.2:
        image = _some(image, 0.5, rng, _blurred)
    if rng.random() < 0.15:
        image = image * _column(rng.uniform(0.75, 1.25, channels))
    if rng.random() < 0.15:
        image = image + _column(rng.normal(0, 0.1, channels) * (rng.random(channels) < 0.5))
    if rng.random() < 0.15:
        image = _some(image, 1, rng, _contrasted)
    if rng.random() < 0.25:
        image = _some(image, 0.5, rng, _at_low_resolution)
    if rng.random() < 0.15:
        image = _some(image, 1, rng, _with_gamma)
    return image


def _some(image: Tensor, probability: float, rng: np.random.Generator, change: object) -> Tensor:
    """Each modality changed with this probability."""
    return torch.stack([change(one, rng) if rng.random() < probability else one for one in image])


def _blurred(one: Tensor, rng: np.random.Generator) -> Tensor:
    transforms = require("monai.transforms", "volumes")
    return transforms.GaussianSmooth(rng.uniform(0.5, 1))(one[None])[0].as_subclass(Tensor)


def _contrasted(one: Tensor, rng: np.random.Generator) -> Tensor:
    mean = one.mean()
    return ((one - mean) * _down_or_up(0.75, 1.25, rng) + mean).clamp(one.min(), one.max())


def _at_low_resolution(one: Tensor, rng: np.random.Generator) -> Tensor:
    zoom = rng.uniform(0.5, 1)
    small = [max(round(side * zoom), 1) for side in one.shape]
    coarse = F.interpolate(one[None, None], small, mode="nearest-exact")
    return F.interpolate(coarse, one.shape, mode="trilinear")[0, 0]


def _with_gamma(one: Tensor, rng: np.random.Generator) -> Tensor:
    transforms = require("monai.transforms", "volumes")
    change = transforms.AdjustContrast(_down_or_up(0.7, 1.5, rng), retain_stats=True)
    return change(one[None])[0].as_subclass(Tensor)


def _down_or_up(low: float, high: float, rng: np.random.Generator) -> float:
    """Below 1 in half of the draws, above in the others."""
    return float(rng.uniform(low, 1) if rng.random() < 0.5 else rng.uniform(1, high))


def _normal(shape: torch.Size, rng: np.random.Generator) -> Tensor:
    return torch.from_numpy(rng.standard_normal(tuple(shape), dtype=np.float32))


def _column(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.float32)).view(-1, 1, 1, 1)
