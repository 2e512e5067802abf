"""multimodal-zoo: multimodal-learning papers as Lightning modules, with exchangeable data modules and losses.

Nothing heavy is imported before it is used: `zoo.list_models()` needs no torch, `zoo.ShaSpecClassifier` does.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.module import ZooModule

try:
    __version__ = version("multimodal-zoo")
except PackageNotFoundError:  # a checkout that is not installed
    __version__ = "0+unknown"

__all__ = ["__version__", "create_model", "list_datamodules", "list_losses", "list_models"]


def list_models() -> list[str]:
    """Names of all methods, for :func:`create_model` and for recipes."""
    from zoo.models import catalogue

    return list(catalogue.entries())


def list_losses(kind: str | None = None) -> list[str]:
    """Names of all losses, or of those of one kind. Raises UnknownNameError for an unknown kind."""
    from losses.registry import names

    return names(kind)


def list_datamodules() -> list[str]:
    """Names of all data modules."""
    from datamodules.registry import names

    return names()


def create_model(name: str, *, checkpoint: str | Path | None = None, **init_args: Any) -> ZooModule:
    """A method's LightningModule.

    Args:
        name: as :func:`list_models` has it.
        checkpoint: weights to start from; every parameter must be in it.
        init_args: arguments of the class, as a recipe's `init_args`.

    Raises:
        RecipeError: unknown method or argument, with near misses; a needed argument is missing.
        CheckpointError: weights that do not fit.
    """
    from zoo.core.errors import RecipeError
    from zoo.core.names import did_you_mean
    from zoo.models import catalogue

    cls = catalogue.entry(name).load()

    from zoo.commands.signatures import arguments, required

    accepted = arguments(cls)
    if unknown := [key for key in init_args if key not in accepted]:
        raise RecipeError(
            " ".join(f"{key} is not an argument of {cls.__name__}. {did_you_mean(key, accepted)}" for key in unknown)
        )
    if missing := [key for key in required(cls) if key not in init_args]:
        raise RecipeError(f"{cls.__name__} needs {', '.join(missing)}.")
    model = cls(**init_args)
    if checkpoint is not None:
        from zoo.checkpoints import load_weights

        load_weights(model, checkpoint)
    return model


def __getattr__(name: str) -> Any:
    """The classes of the methods, by class name."""
    if name[:1].isupper():
        from zoo.models import catalogue, named

        if entry := named(catalogue, name):
            return entry.load()
    raise AttributeError(f"module 'zoo' has no attribute {name!r}")


def __dir__() -> list[str]:
    from zoo.models import catalogue

    return sorted({*__all__, *(entry.target.partition(":")[2] for entry in catalogue.entries().values())})
