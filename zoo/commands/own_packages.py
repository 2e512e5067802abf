"""Makes sure that `losses` and `datamodules` are this project's, whatever folder the command is started in."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

from zoo.core.errors import ZooError

HOME = Path(__file__).resolve().parents[2]
"""The folder that holds the three packages."""


def secure() -> None:
    """Take the current directory off `sys.path`, or to its end where PYTHONPATH names it.

    `python -m` puts it first, and a user's own folder `losses` would then stand before this project's.

    Raises:
        ZooError: if another folder before this project's holds a package of such a name.
    """
    here = os.path.realpath(os.getcwd())
    if here != str(HOME):
        asked_for = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p and os.path.realpath(p) == here]
        sys.path[:] = [p for p in sys.path if os.path.realpath(p) != here] + asked_for[:1]
    for package in ("losses", "datamodules"):
        spec = find_spec(package)
        places = [Path(place).resolve() for place in (spec.submodule_search_locations or ())] if spec else []
        if places != [HOME / package]:
            raise ZooError(
                f"The package {package!r} of this project is hidden by {places[0] if places else 'nothing'}. "
                "Take that folder off PYTHONPATH."
            )
