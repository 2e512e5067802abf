"""The catalogue of data modules: names and facts from `datamodules.yaml`, classes when they are asked for.

Importing this module imports no torch, nor any data module. Third parties add data modules by entry points of the
group `zoo.datamodules` (`name = "package.module:Class"`) and a `datamodules.yaml` like this one beside the module.
"""

from __future__ import annotations

from pathlib import Path

from zoo.core.catalogue import Catalogue, Entry, read_facts


def _packaged() -> dict[str, Entry]:
    facts = read_facts(Path(__file__).with_name("datamodules.yaml"))
    return {name: Entry(name, fact["target"], fact) for name, fact in facts.items()}


catalogue = Catalogue("data module", "zoo.datamodules", _packaged, "datamodules.yaml", read_facts)


def names() -> list[str]:
    """Names of all data modules."""
    return list(catalogue.entries())
