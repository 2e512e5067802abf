"""The files that this project writes: safetensors with provenance, the same bytes for the same tensors."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import safetensors.torch
from torch import Tensor

from zoo.core.errors import CheckpointError
from zoo.core.reading import read_metadata

OURS = "multimodal_zoo"
"""Metadata key that only our files have; its value is the version that wrote them."""


def save(path: str | Path, tensors: Mapping[str, Tensor], *, metadata: Mapping[str, str]) -> None:
    """Write tensors to a safetensors file, whole or not at all: a file of that name stays until the new one is there.

    Args:
        path: the file; what was there is replaced.
        tensors: any device and layout; those that share memory are written apart.
        metadata: texts to keep with them; ours adds the version that wrote them, and no date.

    Raises:
        CheckpointError: if the file cannot be written.
    """
    path = Path(path)
    # clone: the format has no shared memory; sync: a file is written
    own = {key: tensor.detach().cpu().clone().contiguous() for key, tensor in tensors.items()}
    data = memoryview(safetensors.torch.save(own))
    # The library writes metadata in an order that changes from run to run, so the header is written here once more.
    length = int.from_bytes(data[:8], "little")
    header = json.loads(bytes(data[8 : 8 + length]))
    header["__metadata__"] = {"format": "pt", OURS: version("multimodal-zoo"), **metadata}
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        try:
            with unfinished.open("xb") as file:
                file.write(len(text).to_bytes(8, "little") + text)
                file.write(data[8 + length :])
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be written: {error.strerror or error}. Nothing was changed.") from None


def is_ours(metadata: Mapping[str, str]) -> bool:
    """Whether a safetensors file's metadata are ours."""
    return OURS in metadata


def provenance(path: str | Path) -> dict[str, str]:
    """Where the tensors of a file that `zoo import` wrote came from.

    Returns:
        `method`, `rules_version`, `source_name`, `source_sha256`, `licence`, and `multimodal_zoo`, the version that
        wrote the file.

    Raises:
        CheckpointError: if the file is missing or broken, or not ours.
    """
    metadata = read_metadata(path)
    if not is_ours(metadata):
        raise CheckpointError(f"{path} was not written by this project and says nothing about where it came from.")
    return {key: value for key, value in sorted(metadata.items()) if key != "format"}
