"""What a recipe need not say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch.callbacks import Checkpoint

from zoo.commands.classes import other_class
from zoo.commands.recipes import Recipe
from zoo.core.errors import ZooError


def below(recipe: Recipe, model: str | None) -> dict[str, Any]:
    """The recipe that lies below all others.

    A run's folder is `runs/<recipe's folder>/<recipe's name>/version_N`, in which both loggers write; without a recipe
    it is called after the model and the data.

    Args:
        recipe: what was asked for.
        model: class path of the model, if known.
    """
    root = recipe.get("trainer", "default_root_dir") or "runs"
    classes = (model, recipe.class_path("data"))
    name = recipe.name or "/".join(str(path or "unknown").rpartition(".")[2].lower() for path in classes)
    loggers = {
        "lightning.pytorch.loggers.CSVLogger": {"save_dir": root, "name": name},
        "lightning.pytorch.loggers.TensorBoardLogger": {"save_dir": root, "name": name, "default_hp_metric": False},
    }
    return {
        "seed_everything": 0,
        "trainer": {
            "logger": [{"class_path": path, "init_args": arguments} for path, arguments in loggers.items()],
            "callbacks": [],
            "default_root_dir": f"{root}/{name}",
            "num_sanity_val_steps": 0,
            "log_every_n_steps": 10,
            "use_distributed_sampler": False,
        },
        "weights_only": True,
        "return_predictions": False,
        "verbose": False,  # Lightning's table cuts names off, and has a column per test set
    }


def complete(recipe: Recipe) -> None:
    """Write classes that are named by a string as mappings, and see to it that checkpoints are kept."""
    trainer = recipe.tree["trainer"]
    if not isinstance(trainer, dict):
        return
    callbacks = trainer.get("callbacks")
    trainer["callbacks"] = callbacks if isinstance(callbacks, list) else [callbacks] if callbacks else []
    model = recipe.get("model", "init_args")
    for holder, keys in ((trainer, ("callbacks", "logger")), (model, ("optimizer", "scheduler"))):
        for key in keys:
            if isinstance(holder, dict) and key in holder:
                holder[key] = _as_classes(holder[key])
    wanted = _boolean(trainer.get("enable_checkpointing")) is not False
    if wanted and not any(map(_keeps_checkpoints, trainer["callbacks"])):
        trainer["callbacks"].append({"class_path": "zoo.callbacks.Checkpoints"})
    if isinstance(recipe.get("allow_missing"), str):
        recipe.tree["allow_missing"] = [recipe.tree["allow_missing"]]


def forbidden(recipe: Recipe) -> list[str]:
    """Values that would break what this project promises, one sentence each."""
    found = []
    if _boolean(recipe.get("trainer", "use_distributed_sampler")):
        place = recipe.place(("trainer", "use_distributed_sampler"))
        found.append(f"{place} must be false: the data modules spread samples over ranks themselves, without padding.")
    if _boolean(recipe.get("seed_everything")) is not None:
        place = recipe.place(("seed_everything",))
        found.append(f"{place} must be a whole number: the order of samples and all draws follow from it.")
    return found


def _boolean(value: Any) -> bool | None:
    words = {"true": True, "yes": True, "false": False, "no": False}
    return value if isinstance(value, bool) else words.get(str(value).lower())


def _as_classes(value: Any) -> Any:
    if isinstance(value, list):
        return [_as_classes(item) for item in value]
    if isinstance(value, str) and _boolean(value) is None and value != "null":
        return {"class_path": value}
    return value


def _keeps_checkpoints(callback: Any) -> bool:
    if not isinstance(callback, Mapping) or not isinstance(callback.get("class_path"), str):
        return False
    try:
        cls = other_class(callback["class_path"], "callbacks")
    except ZooError:  # the recipe is not right; lint says how
        return True
    return cls is not None and issubclass(cls, Checkpoint)
