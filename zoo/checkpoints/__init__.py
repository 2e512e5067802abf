"""Checkpoints: published ones come in by tables of key rules, and every import is checked, reported, and traceable."""

from zoo.checkpoints.files import provenance, save
from zoo.checkpoints.importer import Official, convert, import_state, load_weights
from zoo.checkpoints.report import ImportReport
from zoo.checkpoints.rules import Renamed, Rule, apply_rules, strip_wrappers

__all__ = [
    "ImportReport",
    "Official",
    "Renamed",
    "Rule",
    "apply_rules",
    "convert",
    "import_state",
    "load_weights",
    "provenance",
    "save",
    "strip_wrappers",
]
