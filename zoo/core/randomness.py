"""Randomness keyed by what it belongs to, so that nothing has to be remembered to resume exactly.

A draw that belongs to sample 7 of epoch 3 is made from a generator keyed by (seed, "augment", 3, 7): the same in any
worker process, on any rank, before and after a cut.
"""

from __future__ import annotations

import hashlib
import operator
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

Key = int | str


def global_seed() -> int:
    """The run's seed: what `seed_everything` of the recipe set, 0 if nothing did."""
    return int(os.environ.get("PL_GLOBAL_SEED") or 0)


def derive(*key: Key) -> int:
    """A 63-bit seed from a key of integers and strings; equal keys give equal seeds on every machine."""
    parts = (
        b"str:" + part.encode("unicode_escape") if isinstance(part, str) else b"int:%d" % operator.index(part)
        for part in key
    )
    # Escaped text cannot hold the separator, so that no two keys look alike.
    return int.from_bytes(hashlib.blake2b(b"\x1f".join(parts), digest_size=8).digest(), "big") >> 1


def torch_generator(*key: Key) -> torch.Generator:
    """A CPU generator of torch for this key."""
    return torch.Generator().manual_seed(derive(*key))


def numpy_generator(*key: Key) -> np.random.Generator:
    """A generator of NumPy for this key."""
    return np.random.default_rng(derive(*key))


def python_generator(*key: Key) -> random.Random:
    """A generator of the standard library for this key (some published draws are defined on it)."""
    return random.Random(derive(*key))


def seed_globals(*key: Key) -> None:
    """Seed the global generators of torch (all devices), NumPy and Python with this key.

    Training does so before every batch, keyed by (seed, rank, batch): what dropout draws then depends on nothing that
    happened before, and a resumed run needs no saved generator states.
    """
    seed = derive(*key)
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 (others' code draws from it)
    random.seed(seed)


@contextmanager
def isolated(*key: Key) -> Iterator[None]:
    """Run the body with global generators seeded by this key; afterwards they are as before."""
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() and torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=list(devices)):
        seed_globals(*key)
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)  # noqa: NPY002
