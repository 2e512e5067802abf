"""Optional packages: one line with the pip command when an extra is missing."""

from __future__ import annotations

import importlib
from types import ModuleType

from zoo.core.errors import MissingExtraError


def require(module: str, extra: str) -> ModuleType:
    """Import `module`, which belongs to this project's extra `extra`.

    Raises:
        MissingExtraError: with the pip command, if it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{module} is needed here and could not be imported ({error}). "
            f"Install it with: pip install 'multimodal-zoo[{extra}]'"
        ) from error
