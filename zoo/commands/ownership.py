"""Who owns the command `lightning`: other packages install one too."""

from __future__ import annotations

from importlib.metadata import entry_points

OURS = "zoo.cli:main"


def note() -> str | None:
    """One line if another installed package has a command called `lightning`."""
    others = [
        point.dist.name if point.dist else point.value
        for point in entry_points(group="console_scripts", name="lightning")
        if point.value != OURS
    ]
    if not others:
        return None
    return f"note: {', '.join(others)} installs a command called lightning too; `python -m zoo.cli` is always this one."
