"""The catalogue of data modules: names and facts from `datamodules.yaml`, classes when they are asked for.

Importing this module imports no torch, nor any data module. Third parties add data modules by entry points of the
group `zoo.datamodules` (`name = "package.module:Class"`).
"""

from __future__ import annotations

from pathlib import Path

import yaml

from zoo.core.catalogue import Catalogue, Entry


def _packaged() -> dict[str, Entry]:
    facts = yaml.safe_load((Path(__file__).parent / "datamodules.yaml").read_text(encoding="utf-8"))
    return {name: Entry(name, fact["target"], fact) for name, fact in facts.items()}


catalogue = Catalogue("data module", "zoo.datamodules", _packaged)


def names() -> list[str]:
    """Names of all data modules."""
    return list(catalogue.entries())
