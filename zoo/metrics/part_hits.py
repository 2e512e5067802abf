"""Do prototypes mean parts? Consistency, stability and purity by annotated parts (x, y in pixels, visible or not).

The regions, thresholds and roundings are those of MGProto's evaluation. Shapes: B images, P prototypes, Q parts, a
square input of S pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def peaks(maps: Tensor, size: int) -> Tensor:
    """Where prototypes peak: maps [B, P, h, w], upsampled (cubic) to `size`, to y, x of the first maximum [B, P, 2]."""
    large = F.interpolate(maps.float(), (size, size), mode="bicubic").flatten(2)
    place = large.argmax(2)
    return torch.stack([place // size, place % size], -1)


def part_hits(peak: Tensor, parts: Tensor, image_size: Tensor, size: int, half: int) -> Tensor:
    """Which visible parts lie within `half` pixels of a peak, in x and in y.

    Args:
        peak: y, x in the input of `size` pixels, int64 [B, P, 2].
        parts: x, y in pixels of the file, and 1 if visible else 0, float [B, Q, 3].
        image_size: height and width of the file, int64 [B, 2].

    Returns:
        bool [B, P, Q].
    """
    place = parts[..., :2].long().flip(-1) * size // image_size[:, None]
    near = ((place[:, None] - peak[:, :, None]).abs() <= half).all(-1)
    return near & (parts[:, None, :, 2] > 0)


def consistency(hits: Tensor, visible: Tensor, threshold: float = 0.8) -> Tensor:
    """Prototypes that mostly meet one part.

    Args:
        hits: how many images of the class each prototype met each part in [P, Q].
        visible: in how many the part is visible [P, Q].

    Returns:
        bool [P]: whether it is met in a share of at least `threshold` of the images that show it.
    """
    return (hits.double() / visible.clamp_min(1) >= threshold).any(1)


def stability(hits: Tensor, disturbed: Tensor) -> Tensor:
    """Share of cases in which a prototype meets the same parts on a clean and on a noisy image: bool [..., Q] twice."""
    return (hits == disturbed).all(-1).double().mean()


def class_purity(activation: Tensor, hits: Tensor, top: int = 10) -> Tensor:
    """Share of the images that excite a prototype most in which it meets its commonest part.

    Args:
        activation: highest of each of the class's images [n, P].
        hits: bool [n, P, Q].
        top: how many images count; all if there are fewer. An activation of -inf never counts.

    Returns:
        float64 [P].
    """
    best = activation.topk(min(top, len(activation)), dim=0)
    counts = best.values > -torch.inf
    met = (hits.take_along_dim(best.indices[:, :, None], 0) & counts[:, :, None]).sum(0)
    return met.amax(1).double() / counts.sum(0).clamp_min(1)


def patch_of_cell(cell: Tensor, cells: int, size: int, patch: int = 32) -> Tensor:
    """First pixel of the patch that PIP-Net's evaluation assigns to a row or column of the map.

    The last patch, and any that reaches the border, ends at the border.

    Args:
        cell: row or column number, int64 [...].
        cells: rows or columns of the map.
        size: of the input, in pixels.
        patch: of a patch.
    """
    if cells == 26:  # ConvNeXt with smaller strides, whose outer cells see less
        start = ((cell - 1) * 8 + 4).clamp_min(0) - 4 * (cell == cells - 1)
    else:
        start = cell * round((size - patch) / max(cells - 1, 1))
    return torch.where((cell == cells - 1) | (start + patch >= size), size - patch, start)


def patch_hits(maps: Tensor, parts: Tensor, image_size: Tensor, size: int, patch: int = 32) -> Tensor:
    """Which visible parts lie in the patch of each prototype's best cell, as PIP-Net's evaluation finds it.

    Args:
        maps: [B, P, h, w].
        parts, image_size: as of :func:`part_hits`.

    Returns:
        bool [B, P, Q].
    """
    height, width = maps.shape[2:]
    cell = maps.flatten(2).argmax(2)
    across, down = cell % width, cell // width
    start = torch.stack([patch_of_cell(across, width, size, patch), patch_of_cell(down, height, size, patch)], -1)
    scale = image_size.flip(-1)[:, None].double() / size
    low, high = start * scale, (start + patch) * scale
    place = parts[:, None, :, :2].double()
    inside = ((place >= low[:, :, None]) & (place <= high[:, :, None])).all(-1)
    return inside & (parts[:, None, :, 2] > 0)


def merge_sides(hits: Tensor, names: list[str]) -> Tensor:
    """Left parts count as the right ones of that name: bool [..., Q] to [..., Q'] without the left ones."""
    right_of = {
        n: names.index(name.replace("left", "right", 1))
        for n, name in enumerate(names)
        if name.startswith("left ") and name.replace("left", "right", 1) in names
    }
    merged = hits.clone()
    for left, right in right_of.items():
        merged[..., right] |= hits[..., left]
    return merged[..., [n for n in range(len(names)) if n not in right_of]]


def patch_purity(hits: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
    """PIP-Net's purity of prototypes from the images that count for each.

    Args:
        hits: how many of them have the part in the prototype's patch [P, Q].
        visible: in how many it is visible [P, Q].

    Returns:
        float64 [P], float64 [P]: share of the purest part; of the part that is met most often.
    """
    share = hits.double() / visible.clamp_min(1)
    return share.amax(1), share.gather(1, hits.argmax(1, keepdim=True))[:, 0]
