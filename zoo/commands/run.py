"""Carries a command out: recipe, checkpoint and options become a model, data and a trainer, and these run."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import lightning
import yaml
from jsonargparse import ArgumentError
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch import Tensor

import zoo
from datamodules.base import ZooDataModule
from zoo.callbacks import Checkpoints, LossBar
from zoo.commands import classes, defaults, quiet, resume, runs, signatures
from zoo.commands.command_line import CommandLine
from zoo.commands.lint import OWN_KEYS, Lint, takes_num_classes, verb_keys
from zoo.commands.recipes import CATALOGUES, Recipe, read_all
from zoo.core.errors import CheckpointError, RecipeError, ZooError
from zoo.interrupt import Interruptible
from zoo.models import named
from zoo.module import ZooModule

RECIPE_FILE = "recipe.yaml"

# Lightning has enums as defaults of arguments that are annotated as str (Timer), which no resolved recipe could hold.
yaml.SafeDumper.add_multi_representer(Enum, lambda dumper, value: dumper.represent_data(value.value))


def run(command: CommandLine) -> None:
    """Carry out what the command line asks for.

    Raises:
        ZooError: for all that a user can mend.
    """
    quiet.silence()
    if command.help:
        _help(command)
        return
    recipe, saved = assemble(command)
    ZooCLI(command.verb, recipe, saved, command.print_config)


def assemble(command: CommandLine) -> tuple[Recipe, resume.SavedModel | None]:
    """The whole recipe of a command, and the checkpoint that it starts from.

    From below: what the checkpoint says of its model, this project's defaults, recipes in order, options in order.
    """
    asked = read_all(command, Recipe(_default_loss))
    recipe, saved = _above_defaults(command, asked), None
    if path := resume.locate(recipe):
        saved = resume.read(path)
        recipe = _above_defaults(command, asked, resume.fill(saved, asked, command.verb), path)
        recipe.tree["ckpt_path"] = str(path)
    defaults.complete(recipe)
    return recipe, saved


def _above_defaults(
    command: CommandLine, asked: Recipe, of_checkpoint: dict[str, Any] | None = None, path: Path | None = None
) -> Recipe:
    recipe = Recipe(_default_loss)
    recipe.add(of_checkpoint or {}, str(path))
    model = asked.class_path("model") or recipe.class_path("model")
    recipe.add(defaults.below(asked, model), "this project's defaults")
    return read_all(command, recipe)


def _default_loss(class_path: str, slot: str) -> str | None:
    try:
        slots = getattr(classes.load(class_path), "slots", {})
    except ZooError:  # lint says what is wrong
        return None
    return slots[slot].name if slot in slots else None


class ZooCLI(LightningCLI):
    """LightningCLI for one verb and a recipe that is already read, merged and looked through.

    jsonargparse gives the values their types and makes the objects. The recipe wins over the checkpoint.
    """

    def __init__(self, verb: str, recipe: Recipe, saved: resume.SavedModel | None, print_config: bool) -> None:
        self.verb, self.recipe, self.saved, self.print_config = verb, recipe, saved, print_config
        self.lint = Lint(recipe)
        if problems := [*self.lint.problems, *defaults.forbidden(recipe)]:
            raise RecipeError("\n".join(problems))
        self.num_classes_linked = takes_num_classes(self.lint.model, self.lint.data)
        tree = {key: value for key, value in recipe.tree.items() if key in (*OWN_KEYS, *verb_keys(verb))}
        header = [f"multimodal-zoo {zoo.__version__}, lightning {lightning.__version__}"]
        kwargs = {"exit_on_error": False, "dump_header": header}
        super().__init__(
            ZooModule,
            ZooDataModule,
            save_config_callback=None,
            seed_everything_default=0,
            parser_kwargs={**kwargs, verb: kwargs},
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            args={"subcommand": verb, verb: tree},
        )

    def subcommands(self) -> dict[str, set[str]]:
        return {self.verb: LightningCLI.subcommands()[self.verb]}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        add_own_arguments(parser)
        if self.num_classes_linked:
            parser.link_arguments(
                "data.num_classes", "model.init_args.num_classes", self._agreed_num_classes, apply_on="instantiate"
            )

    def _agreed_num_classes(self, of_data: int | None) -> int:
        path = ("model", "init_args", "num_classes")
        asked = self.recipe.get(*path)
        if of_data is None:  # files without labels
            if asked is None:
                raise RecipeError(
                    f"{self.lint.data.__name__} finds no labels, which would tell the number of classes: name its list "
                    "of samples, or --ckpt_path."
                )
            return int(asked)
        if asked is not None and int(asked) != of_data:
            raise RecipeError(
                f"{self.recipe.place(path)} says {asked}, the data of {self.lint.data.__name__} have {of_data} classes."
            )
        return of_data

    # -- LightningCLI's steps, in its order --------------------------------------------------------------------------

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        try:
            self.config = parser.parse_object(args)
        except ArgumentError as error:
            problems = self.lint.misfits() or [signatures.wanted(str(error))]
            raise RecipeError("\n".join(problems)) from None

    def _parse_ckpt_path(self) -> None:
        """LightningCLI's own lets the checkpoint silently beat the recipe. Here they have to agree."""
        self.text = self._dump()
        if self.saved:
            self._dump_config()
            arguments = self.config_dump["model"].get("init_args", {})
            if problems := resume.differences(self.saved, self.recipe, arguments):
                raise RecipeError("\n".join(problems))
        if self.print_config:
            print(self.text, end="")
            sys.exit(0)

    def _dump(self, **kwargs: Any) -> str:
        return self._parser(self.verb).dump(self.config[self.verb], skip_unset=False, **kwargs)

    def _dump_config(self) -> None:
        """What becomes the hyper-parameters of a checkpoint; LightningCLI's own uses deprecated options."""
        self.config_dump = yaml.safe_load(self._dump(skip_link_targets=False))

    def instantiate_classes(self) -> None:
        instantiate = getattr(self.parser, "instantiate", None) or self.parser.instantiate_classes
        config = self.config.clone()
        loggers = config[self.verb].trainer.logger
        runs.number(loggers if isinstance(loggers, list) else [loggers])
        try:
            self.config_init = instantiate(config)
        except ValueError as error:
            if isinstance(error.__cause__, ZooError):  # jsonargparse wraps what a link raises
                raise error.__cause__ from None
            raise
        self.datamodule = self._get(self.config_init, "data")
        self.model = self._get(self.config_init, "model")
        self.trainer = self.instantiate_trainer()

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        trainer = self._get(self.config_init, "trainer")
        callbacks = [*(trainer["callbacks"] or []), SaveRecipe(self.text)]
        if keepers := [callback for callback in callbacks if isinstance(callback, Checkpoints)]:
            callbacks.append(Interruptible(keepers[0]))
        bars = any(isinstance(callback, ProgressBar) for callback in callbacks)
        if not bars and self.recipe.get("trainer", "enable_progress_bar") is None:
            if sys.stdout.isatty():
                callbacks.append(LossBar())
            else:
                kwargs["enable_progress_bar"] = False
        try:
            return super().instantiate_trainer(**kwargs, callbacks=callbacks)
        except (MisconfigurationException, ValueError, TypeError) as error:
            raise RecipeError(f"trainer: {' '.join(str(error).split())}") from error

    def after_instantiate_classes(self) -> None:
        """Say what is resumed, or load the initial weights."""
        weights = self.config[self.verb].weights
        if self.saved:
            if self.verb == "fit":
                say(f"Resuming {self.saved.path}: epoch {self.saved.epoch}, step {self.saved.step}.")
        elif weights:
            from zoo.checkpoints import load_weights

            say(str(load_weights(self.model, weights, allow_missing=self.config[self.verb].allow_missing)))
        elif self.verb != "fit":
            say("Neither --ckpt_path nor --weights is given: the model is untrained.")

    def _run_subcommand(self, subcommand: str) -> None:
        try:
            super()._run_subcommand(subcommand)
        except RuntimeError as error:
            if self.saved is None or not str(error).startswith("Error(s) in loading state_dict"):
                raise
            raise CheckpointError(f"{self.saved.path} does not fit. {' '.join(str(error).split())}") from error
        if subcommand in ("validate", "test") and not self.config[subcommand].verbose:
            print_metrics(self.trainer.callback_metrics)


def add_own_arguments(parser: LightningArgumentParser) -> None:
    """What a recipe takes beside Lightning's."""
    parser.add_argument("--weights", type=str | None, default=None, help="Initial weights: a file.")
    parser.add_argument(
        "--allow_missing", type=list[str], default=[], help="Parameters that the weights may lack, such as 'head.*'."
    )


class SaveRecipe(Callback):
    """Writes the resolved recipe into the run's folder. A checkpoint is no part of it: it is named for each run."""

    def __init__(self, text: str) -> None:
        self.text = text

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        folder = trainer.log_dir
        if folder is None or trainer.fast_dev_run or not trainer.is_global_zero:
            return
        Path(folder).mkdir(parents=True, exist_ok=True)
        kept = yaml.safe_load(self.text) | {"ckpt_path": None}
        header = self.text.partition("\n")[0]
        Path(folder, RECIPE_FILE).write_text(f"{header}\n{yaml.safe_dump(kept, sort_keys=False)}", encoding="utf-8")


@rank_zero_only
def say(line: str) -> None:
    print(line, file=sys.stderr)


@rank_zero_only
def print_metrics(metrics: Mapping[str, Tensor]) -> None:
    width = max(map(len, metrics), default=0)
    for name in sorted(metrics):
        print(f"{name:{width}}  {float(metrics[name]):.5g}")


def _help(command: CommandLine) -> None:
    """The keys of a verb, or the arguments of a class: `--model.help ShaSpecClassifier`."""
    words = list(command.help)
    section = words[0].removeprefix("--").removesuffix(".help")
    if section in CATALOGUES and len(words) == 2:
        entry = named(CATALOGUES[section], words[1])
        words[1] = entry.target.replace(":", ".") if entry else words[1]
        classes.section_class(section, words[1], CATALOGUES[section])
    parser = LightningArgumentParser(prog=f"lightning {command.verb or ''}".strip(), exit_on_error=False)
    parser.add_argument("-c", "--config", help="A recipe: a file, or zoo:NAME for one that comes with this project.")
    parser.add_lightning_class_args(Trainer, "trainer")
    for name, base in classes.SECTIONS.items():
        parser.add_lightning_class_args(base, name, subclass_mode=True)
    add_own_arguments(parser)
    parser.add_argument("--ckpt_path", help="A checkpoint to resume (fit) or to evaluate: a file, best or last.")
    parser.add_argument("--seed_everything", type=int, default=0, help="The order of samples and all draws follow.")
    try:
        parser.parse_args(words)
    except ArgumentError as error:
        raise RecipeError(f"{' '.join(words)}: {' '.join(str(error).split())}") from None
