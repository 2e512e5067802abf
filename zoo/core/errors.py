"""Errors that a user can act on. Each message is one sentence or two: what, where, what to do."""

from __future__ import annotations


class ZooError(Exception):
    """Base of all errors that this project raises on purpose; the commands print them as one line and exit with 2."""


class RecipeError(ZooError):
    """A recipe or command line that cannot be carried out: unknown key, wrong type, two values that disagree."""


class UnknownNameError(RecipeError, KeyError):
    """A name that is in no registry. `str(error)` holds the nearest names."""

    __str__ = Exception.__str__  # KeyError would put the message in quotes


class DataError(ZooError):
    """A data set, or one file of it, that is missing, broken or laid out otherwise than its public download."""


class CheckpointError(ZooError):
    """A checkpoint that is unsafe, broken, or of another architecture."""


class NonFiniteLossError(ZooError):
    """A loss term became NaN or infinite."""


class MissingExtraError(ZooError, ImportError):
    """A package that belongs to one of this project's extras is not installed."""
