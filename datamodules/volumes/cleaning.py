"""The published clean-up of predicted label maps of brain tumours (ShaSpec, LCKD, MCKD)."""

from __future__ import annotations

import numpy as np

from zoo.core.extras import require

CORE, OEDEMA, ENHANCING = 1, 2, 4
LOWEST_SLICE = 25  # a component that does not reach above it is no tumour
SMALL, SMALL_SHARE = 2000, 0.1  # voxels; of the largest component
FEW_ENHANCING = 500  # voxels; fewer in a whole map become core


def clean(labels: np.ndarray, t1ce: np.ndarray | None) -> np.ndarray:
    """Take small and low components out, find core in tumours without enhancement, drop a tiny enhancing tumour.

    Components touch by faces. The published clustering starts at random; this one starts from quartiles.

    Args:
        labels: integers [H, W, D], values 0, 1, 2, 4.
        t1ce: the raw volume, same shape; `None` leaves out the search for core, which needs it.

    Returns:
        The same shape and dtype.
    """
    ndimage = require("scipy.ndimage", "volumes")
    cleaned = labels.copy()
    components, count = ndimage.label(labels > 0)
    if not count:
        return cleaned
    sizes = np.bincount(components.ravel())[1:]
    little_enhancing = (labels == ENHANCING).sum() / (labels > 0).sum() < 0.12
    for number, (size, box) in enumerate(zip(sizes, ndimage.find_objects(components), strict=True), start=1):
        inside = components == number
        if size < min(SMALL, SMALL_SHARE * sizes.max()) or box[2].stop - 1 <= LOWEST_SLICE:
            cleaned[inside] = 0
        elif t1ce is not None and little_enhancing and _lacks_enhancement(cleaned, inside):
            oedema = inside & (cleaned == OEDEMA)
            cleaned[oedema & _middle_cluster(np.where(oedema, t1ce, 0))] = CORE
    if (cleaned == ENHANCING).sum() < FEW_ENHANCING:
        cleaned[cleaned == ENHANCING] = CORE
    return cleaned


def _lacks_enhancement(labels: np.ndarray, inside: np.ndarray) -> bool:
    # Sums of label values, as published: enhancing voxels count four times.
    values = labels[inside].astype(np.int64)
    enhancing = values[values == ENHANCING].sum()
    return enhancing / values.sum() < 0.05 and enhancing < 450 and (labels == CORE).sum() < 10_000


def _middle_cluster(values: np.ndarray) -> np.ndarray:
    """Where the second largest of three clusters of values is, most of which are 0."""
    vq = require("scipy.cluster.vq", "volumes")
    shown = values[values != 0]
    if len(np.unique(shown)) < 2:
        return np.zeros(values.shape, bool)
    start = np.array([0.0, *np.quantile(shown, [0.25, 0.75])])[:, None]
    centres, cluster = vq.kmeans2(values.reshape(-1, 1).astype(np.float64), start, iter=10, minit="matrix")
    return (cluster == np.argsort(centres[:, 0])[1]).reshape(values.shape)
