"""The `lightning` command: recipes laid over one another, runs and their folders, checkpoints that recipes beat."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.support.commands import RECIPE, Cli
from zoo.commands import recipes
from zoo.commands.command_line import parse
from zoo.commands.recipes import Recipe, read_all

pytest_plugins = ["tests.support.command_fixtures"]

LOSSES = ("model", "init_args", "losses")


def resolved(cli: Cli, *args: str) -> dict[str, Any]:
    """The recipe that a command would run."""
    result = cli(*args, "--print_config")
    assert result.code == 0, result.err
    return yaml.safe_load(result.out)


def with_model(**init_args: Any) -> dict[str, Any]:
    return {**RECIPE, "model": {"class_path": "Tiny", "init_args": init_args}}


# -- recipes ---------------------------------------------------------------------------------------------------------


def test_recipes_stand_before_or_after_the_verb_and_later_ones_win(cli: Cli) -> None:
    cli.write("tiny.yaml", with_model(width=4, bias=False))
    cli.write("wider.yaml", {"model": {"init_args": {"width": 5}}})
    for args in (
        ["-c", "tiny.yaml", "fit", "-c", "wider.yaml"],
        ["fit", "--config", "tiny.yaml", "--config=wider.yaml"],
    ):
        model = resolved(cli, *args)["model"]["init_args"]
        assert (model["width"], model["bias"]) == (5, False)
    assert (
        resolved(cli, "fit", "--model.width=6", "-c", "tiny.yaml", "-c", "wider.yaml")["model"]["init_args"]["width"]
        == 6
    )


@pytest.mark.parametrize("name", ["tiny", "Tiny", "tests.support.tiny.Tiny"])
def test_a_class_goes_by_registered_name_class_name_or_full_path(cli: Cli, name: str) -> None:
    cli.write("tiny.yaml", {**RECIPE, "model": {"class_path": name}, "data": "tinydata"})
    recipe = resolved(cli, "fit", "-c", "tiny.yaml")
    assert recipe["model"]["class_path"] == "tests.support.tiny.Tiny"
    assert recipe["data"]["class_path"] == "tests.support.tiny.TinyData"


def test_another_class_starts_with_its_own_arguments(cli: Cli) -> None:
    cli.write(
        "tiny.yaml", with_model(width=4, optimizer={"class_path": "SGD", "init_args": {"lr": 1, "momentum": 0.9}})
    )
    cli.write("adam.yaml", {"model": {"init_args": {"optimizer": {"class_path": "AdamW"}}}})
    assert resolved(cli, "fit", "-c", "tiny.yaml", "--model=wide")["model"]["init_args"]["width"] == 30
    optimizer = resolved(cli, "fit", "-c", "tiny.yaml", "-c", "adam.yaml")["model"]["init_args"]["optimizer"]
    assert optimizer["class_path"] == "torch.optim.AdamW"
    assert optimizer["init_args"]["lr"] == 0.001


def test_arguments_of_nested_classes_are_changed_one_by_one(cli: Cli) -> None:
    cli.write("tiny.yaml", with_model(optimizer={"class_path": "SGD", "init_args": {"lr": 1, "momentum": 0.9}}))
    recipe = resolved(cli, "fit", "-c", "tiny.yaml", "--model.optimizer.lr=1e-3", "--trainer.callbacks+=EarlyStopping",
                      "--trainer.callbacks.monitor=val/accuracy", "--trainer.callbacks.0.patience=7")  # fmt: skip
    optimizer = recipe["model"]["init_args"]["optimizer"]["init_args"]
    assert (optimizer["lr"], optimizer["momentum"]) == (0.001, 0.9)
    assert recipe["trainer"]["callbacks"][0]["init_args"]["patience"] == 7


def test_a_section_may_stand_in_a_file_beside_the_recipe(cli: Cli) -> None:
    cli.write("data/tiny.yaml", {"class_path": "TinyData", "init_args": {"batch_size": 3, "demo": 9}})
    cli.write("recipes/tiny.yaml", {**RECIPE, "data": "../data/tiny.yaml"})
    assert resolved(cli, "fit", "-c", "recipes/tiny.yaml")["data"]["init_args"]["batch_size"] == 3
    assert resolved(cli, "fit", "--model=tiny", "--data=data/tiny.yaml")["data"]["init_args"]["demo"] == 9


def merged_losses(folder: Path, *layers: dict[str, Any], options: tuple[str, ...] = ()) -> dict[str, Any]:
    args = ["fit"]
    for number, losses in enumerate(layers):
        path = folder / f"{number}.yaml"
        path.write_text(yaml.safe_dump({"model": {"class_path": "toy.Net", "init_args": {"losses": losses}}}))
        args += ["-c", str(path)]
    recipe = read_all(parse([*args, *options]), Recipe(lambda model, slot: "paper_loss"))
    return recipe.get(*LOSSES)


def test_losses_merge_slot_by_slot_and_key_by_key(tmp_path: Path) -> None:
    assert merged_losses(
        tmp_path,
        {"task": {"name": "hinge", "margin": 1, "weight": 2}, "align": "ring"},
        {"task": {"margin": 3}, "contrast": {"temperature": 0.1}},
        options=(
            "--model.losses.align.weight=0.2",
            "--model.init_args.losses.contrast.weight",
            "{ramp: [0, 1], steps: 9}",
        ),
    ) == {
        "task": {"name": "hinge", "margin": 3, "weight": 2},
        "align": {"name": "ring", "weight": 0.2},
        "contrast": {"temperature": 0.1, "weight": {"ramp": [0, 1], "steps": 9}},
    }


def test_another_loss_keeps_the_weight_and_drops_the_settings(tmp_path: Path) -> None:
    below = {"task": {"name": "hinge", "margin": 1, "weight": 2}}
    assert merged_losses(tmp_path, below, {"task": "focal"}) == {"task": {"name": "focal", "weight": 2}}
    assert merged_losses(tmp_path, below, options=("--model.losses.task=focal",)) == {
        "task": {"name": "focal", "weight": 2}
    }
    assert merged_losses(tmp_path, below, {"task": {"name": "hinge"}}) == below


def test_a_schedule_replaces_a_schedule(tmp_path: Path) -> None:
    below = {"task": {"weight": {"ramp": [0, 1], "steps": 9}}}
    above = {"task": {"weight": {"ramp": [0, 2], "epochs": 3}}}
    assert merged_losses(tmp_path, below, above) == above
    longer = merged_losses(tmp_path, below, options=("--model.losses.task.weight.steps=99",))
    assert longer == {"task": {"weight": {"ramp": [0, 1], "steps": 99}}}


def test_naming_the_papers_loss_keeps_settings_given_without_its_name(tmp_path: Path) -> None:
    below = {"task": {"margin": 1}}
    assert merged_losses(tmp_path, below, {"task": "paper_loss"}) == {"task": {"name": "paper_loss", "margin": 1}}
    assert merged_losses(tmp_path, below, {"task": "focal"}) == {"task": {"name": "focal"}}


def test_merged_losses_reach_the_model(cli: Cli) -> None:
    cli.write("tiny.yaml", with_model(losses={"task": {"name": "tiny_margin", "margin": 2}}))
    recipe = resolved(cli, "fit", "-c", "tiny.yaml", "--model.losses.task.weight=0.5")
    assert recipe["model"]["init_args"]["losses"] == {"task": {"name": "tiny_margin", "margin": 2, "weight": 0.5}}


def test_recipes_that_come_with_the_project_are_found_by_name(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli.write("packaged/paper/demo.yaml", with_model(width=8))
    monkeypatch.setattr(recipes, "PACKAGED", tmp_path / "packaged")
    recipe = resolved(cli, "-c", "zoo:paper/demo", "fit")
    assert recipe["model"]["init_args"]["width"] == 8
    assert recipe["trainer"]["logger"][0]["init_args"]["name"] == "paper/demo"
    assert "Did you mean paper/demo?" in cli("fit", "-c", "zoo:paper/dem").err
    assert cli("fit", "-c", "zoo:../packaged/paper/demo").code == 2


def test_the_printed_recipe_is_one_and_says_the_same(cli: Cli) -> None:
    cli.write("tiny.yaml", with_model(width=4, losses={"task": {"weight": 0.5}}, scheduler="CosineAnnealingLR"))
    printed = cli("fit", "-c", "tiny.yaml", "--model.scheduler.T_max=3", "--trainer.callbacks+=Timer",
                  "--trainer.callbacks.duration=00:00:01:00", "--print_config").out  # fmt: skip
    (cli.folder / "elsewhere.yaml").write_text(printed)
    assert cli("fit", "-c", "elsewhere.yaml", "--print_config").out == printed
    assert cli("test", "-c", "elsewhere.yaml", "--print_config").code == 0  # keys of other verbs do no harm


# -- runs ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def trained(cli: Cli) -> Cli:
    """One finished run of `papers/tiny.yaml`."""
    callbacks = [{"class_path": "Checkpoints", "init_args": {"monitor": "val/accuracy"}}]
    cli.write("papers/tiny.yaml", {**with_model(width=4), "trainer": {**RECIPE["trainer"], "callbacks": callbacks}})
    assert cli("fit", "-c", "papers/tiny.yaml").code == 0
    return cli


def test_a_run_lies_in_one_folder_and_says_what_was_run(trained: Cli) -> None:
    runs = trained.folder / "runs/papers/tiny"
    assert [run.name for run in runs.iterdir()] == ["version_0"]
    run = runs / "version_0"
    assert {path.name for path in run.iterdir()} >= {"recipe.yaml", "metrics.csv", "checkpoints"}
    assert list(run.glob("events.out.tfevents.*"))
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
    assert resolved(trained, "fit", "-c", str(run / "recipe.yaml")) == yaml.safe_load((run / "recipe.yaml").read_text())


def test_the_saved_recipe_runs_again_beside_the_first_run(trained: Cli) -> None:
    assert trained("fit", "-c", "runs/papers/tiny/version_0/recipe.yaml").code == 0
    assert (trained.folder / "runs/papers/tiny/version_1/checkpoints/last.ckpt").is_file()


def test_defaults_of_a_recipe_that_says_nothing(cli: Cli) -> None:
    recipe = resolved(cli, "fit", "--model=tiny", "--data=tinydata")
    trainer = recipe["trainer"]
    assert recipe["seed_everything"] == 0
    assert trainer["use_distributed_sampler"] is False
    assert trainer["num_sanity_val_steps"] == 0
    assert [callback["class_path"] for callback in trainer["callbacks"]] == ["zoo.callbacks.Checkpoints"]
    assert {logger["init_args"]["name"] for logger in trainer["logger"]} == {"tiny/tinydata"}
    assert {logger["init_args"]["save_dir"] for logger in trainer["logger"]} == {"runs"}
    assert recipe["weights_only"] is True


def test_a_recipe_with_checkpoints_of_its_own_gets_no_others(cli: Cli) -> None:
    cli.write("tiny.yaml", RECIPE)
    callbacks = resolved(cli, "fit", "-c", "tiny.yaml", "--trainer.callbacks+=ModelCheckpoint")["trainer"]["callbacks"]
    assert [callback["class_path"] for callback in callbacks] == ["lightning.pytorch.callbacks.ModelCheckpoint"]
    assert resolved(cli, "fit", "-c", "tiny.yaml", "--trainer.enable_checkpointing=false")["trainer"]["callbacks"] == []


def test_one_folder_serves_for_all_runs_of_all_recipes(cli: Cli) -> None:
    cli.write("tiny.yaml", RECIPE)
    assert cli("fit", "-c", "tiny.yaml", "--trainer.default_root_dir=elsewhere").code == 0
    assert list((cli.folder / "elsewhere").glob("*/tiny/version_0/checkpoints/last.ckpt"))


def test_a_run_without_loggers_keeps_its_checkpoints(cli: Cli) -> None:
    cli.write("papers/tiny.yaml", RECIPE)
    assert cli("fit", "-c", "papers/tiny.yaml", "--trainer.logger=false").code == 0
    assert (cli.folder / "runs/papers/tiny/checkpoints/last.ckpt").is_file()
    assert cli("test", "-c", "papers/tiny.yaml", "--trainer.logger=false", "--ckpt_path=last").code == 0


def test_output_is_free_of_what_no_user_can_change(trained: Cli, caplog: pytest.LogCaptureFixture) -> None:
    caplog.clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert trained("fit", "-c", "papers/tiny.yaml", "--trainer.max_epochs=2", "--ckpt_path=last").code == 0
    assert not [str(warning.message) for warning in caught]
    assert not [record.message for record in caplog.records if "Tip" in record.message]


@pytest.mark.parametrize("verb", ["validate", "test"])
def test_evaluation_ends_with_its_measures_in_full(trained: Cli, verb: str) -> None:
    said = trained(verb, "-c", "papers/tiny.yaml", "--ckpt_path=best").out
    accuracy = {"validate": "val", "test": "test"}[verb] + "/accuracy"
    assert re.search(rf"^{accuracy}  (0(\.\d{{1,5}})?|1)$", said, re.MULTILINE)
    assert "DataLoader" not in said
    assert "DataLoader 0" in trained(verb, "-c", "papers/tiny.yaml", "--ckpt_path=best", "--verbose=true").out


# -- checkpoints -----------------------------------------------------------------------------------------------------


def test_best_and_last_are_those_of_the_newest_run_that_has_them(trained: Cli) -> None:
    assert trained("test", "-c", "papers/tiny.yaml", "--ckpt_path=best").code == 0  # makes version_1, without any
    runs = trained.folder / "runs/papers/tiny"
    for version in (2, 10):
        (runs / f"version_{version}/checkpoints").mkdir(parents=True)
        (runs / f"version_{version}/checkpoints/last.ckpt").write_bytes(
            (runs / "version_0/checkpoints/last.ckpt").read_bytes()
        )
    recipe = resolved(trained, "test", "-c", "papers/tiny.yaml", "--ckpt_path=last")
    assert recipe["ckpt_path"] == "runs/papers/tiny/version_10/checkpoints/last.ckpt"
    recipe = resolved(trained, "test", "-c", "papers/tiny.yaml", "--ckpt_path=best")
    assert recipe["ckpt_path"] == "runs/papers/tiny/version_0/checkpoints/best.ckpt"


BEST = "--ckpt_path=runs/papers/tiny/version_0/checkpoints/best.ckpt"


@pytest.mark.parametrize("verb", ["validate", "test", "predict"])
def test_evaluation_needs_no_model_section(trained: Cli, verb: str) -> None:
    data = ["--data=tinydata", "--data.demo=12", "--trainer.accelerator=cpu"]
    recipe = resolved(trained, verb, *data, BEST)
    assert recipe["model"]["class_path"] == "tests.support.tiny.Tiny"
    assert recipe["model"]["init_args"]["width"] == 4
    result = trained(verb, *data, BEST)
    assert result.code == 0
    assert "untrained" not in result.err


def test_recipe_and_command_line_beat_the_checkpoint(trained: Cli) -> None:
    sgd = {"class_path": "SGD", "init_args": {"lr": 0.3, "momentum": 0.9}}
    trained.write("papers/sgd.yaml", with_model(optimizer=sgd, losses={"task": {"label_smoothing": 0.1, "weight": 2}}))
    assert trained("fit", "-c", "papers/sgd.yaml").code == 0
    checkpoint = "--ckpt_path=runs/papers/sgd/version_0/checkpoints/last.ckpt"
    data = ["--data=tinydata", "--data.demo=12"]

    left_open = resolved(trained, "fit", *data, checkpoint)["model"]["init_args"]
    assert (left_open["optimizer"]["init_args"]["lr"], left_open["losses"]["task"]["weight"]) == (0.3, 2)

    options = ["--model.optimizer.lr=0.5", "--model.losses.task.weight=3"]
    said = resolved(trained, "fit", *data, checkpoint, *options)["model"]["init_args"]
    assert (said["optimizer"]["init_args"]["lr"], said["optimizer"]["init_args"]["momentum"]) == (0.5, 0.9)
    assert said["losses"]["task"] == {"label_smoothing": 0.1, "weight": 3}

    trained.write("papers/sgd.yaml", with_model(optimizer={"class_path": "SGD", "init_args": {"lr": 0.1}}))
    own = resolved(trained, "fit", "-c", "papers/sgd.yaml", checkpoint)["model"]["init_args"]["optimizer"]["init_args"]
    assert (own["lr"], own["momentum"]) == (0.1, 0.0)  # a recipe that names its optimizer means it whole


@pytest.mark.parametrize(
    ("option", "wanted"),
    [
        ("--model.width=5", "was trained with width 4, --model.width says 5. Drop one of them."),
        ("--model.bias=false", "was trained with bias True, --model.bias says False. Drop one of them."),
        ("--model.num_classes=3", "was trained with num_classes 2, --model.num_classes says 3. Drop one of them."),
        ("--model=wide", "was trained with Tiny, --model says Wide. Drop one of them."),
    ],
)
def test_another_architecture_than_the_checkpoints_is_told_with_both_values(
    trained: Cli, option: str, wanted: str
) -> None:
    result = trained("test", "-c", "papers/tiny.yaml", BEST, option)
    assert (result.code, len(result.errors)) == (2, 1)
    assert result.errors[0].endswith(wanted)


def test_resuming_says_where_and_goes_on_from_there(trained: Cli) -> None:
    result = trained("fit", "-c", "papers/tiny.yaml", "--ckpt_path=last", "--trainer.max_epochs=2")
    assert result.code == 0
    path = "runs/papers/tiny/version_0/checkpoints/last.ckpt"
    assert f"Resuming {path}: epoch 0, step 3." in result.err
    resumed = torch.load(trained.folder / "runs/papers/tiny/version_1/checkpoints/last.ckpt", weights_only=True)
    assert (resumed["epoch"], resumed["global_step"]) == (1, 6)
    assert yaml.safe_load((trained.folder / "runs/papers/tiny/version_1/recipe.yaml").read_text())["ckpt_path"] is None


def tampered(cli: Cli, change: Any) -> str:
    """A copy of the run's checkpoint, changed."""
    content = torch.load(cli.folder / BEST.partition("=")[2], weights_only=False)
    change(content)
    torch.save(content, cli.folder / "tampered.ckpt")
    return "--ckpt_path=tampered.ckpt"


def test_a_checkpoint_makes_nobody_import_what_it_names(trained: Cli) -> None:
    def foreign_class(content: dict[str, Any]) -> None:
        content["hyper_parameters"]["_class_path"] = "antigravity.Net"

    def foreign_optimizer(content: dict[str, Any]) -> None:
        content["hyper_parameters"]["optimizer"] = {"class_path": "antigravity.Adam"}

    data = ["--data=tinydata", "--data.demo=12"]
    refused = trained("test", *data, tampered(trained, foreign_class))
    assert refused.errors == [
        "error: tampered.ckpt is of the class antigravity.Net, which is none of this project's. Name it with --model."
    ]
    refused = trained("fit", *data, tampered(trained, foreign_optimizer))
    assert refused.errors == [
        "error: tampered.ckpt names antigravity.Adam as optimizer. Name it in the recipe if you trust it."
    ]
    assert "antigravity" not in sys.modules


def test_a_broken_checkpoint_is_one_line(trained: Cli) -> None:
    whole = (trained.folder / BEST.partition("=")[2]).read_bytes()
    (trained.folder / "cut.ckpt").write_bytes(whole[: len(whole) // 2])
    torch.save({"state_dict": {}}, trained.folder / "weights.pth")
    for file in ("cut.ckpt", "weights.pth"):
        result = trained("test", "-c", "papers/tiny.yaml", f"--ckpt_path={file}")
        assert (result.code, len(result.errors)) == (2, 1)
        assert result.errors[0].startswith(f"error: {file} ")


def test_a_checkpoint_that_lacks_a_tensor_is_one_line(trained: Cli) -> None:
    option = tampered(trained, lambda content: content["state_dict"].pop("head.bias"))
    result = trained("test", "-c", "papers/tiny.yaml", option)
    assert (result.code, len(result.errors)) == (2, 1)
    assert result.errors[0].startswith("error: tampered.ckpt does not fit.")
    assert "head.bias" in result.errors[0]


def test_weights_are_where_training_starts_from(trained: Cli) -> None:
    best = BEST.partition("=")[2]
    content = torch.load(trained.folder / best, weights_only=True)
    del content["state_dict"]["head.bias"]
    torch.save(content, trained.folder / "partial.ckpt")
    fit = ["fit", "-c", "papers/tiny.yaml", "--trainer.max_epochs=0"]

    result = trained(*fit, f"--weights={best}")
    assert result.code == 0
    assert f"{best} (torch zip, under 'state_dict') → Tiny" in result.err
    assert trained(*fit, "--weights=partial.ckpt").code == 2
    assert trained(*fit, "--weights=partial.ckpt", "--allow_missing=head.*", "--allow-missing", "body.*").code == 0
    trained.write("papers/tiny.yaml", {**with_model(width=4), "weights": "partial.ckpt", "allow_missing": "head.*"})
    assert trained("test", "-c", "papers/tiny.yaml", "--trainer.accelerator=cpu").code == 0


def test_a_checkpoint_goes_before_weights(trained: Cli) -> None:
    result = trained("test", "-c", "papers/tiny.yaml", BEST, "--weights=none.pth")
    assert result.code == 0


def test_an_untrained_model_is_not_evaluated_silently(trained: Cli) -> None:
    result = trained("test", "-c", "papers/tiny.yaml")
    assert result.code == 0
    assert "Neither --ckpt_path nor --weights is given: the model is untrained." in result.err


# -- the process -----------------------------------------------------------------------------------------------------

WITHOUT_TORCH = """
import sys
from zoo.cli import main
try:
    main(sys.argv[1:])
finally:
    assert not {"torch", "lightning", "jsonargparse"} & set(sys.modules), "heavy import"
"""


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["fitt"], ["fit", "-c", "missing.yaml"]])
def test_quick_answers_come_without_torch(args: list[str]) -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH, *args], capture_output=True, text=True, check=False)
    assert "heavy import" not in done.stderr
    assert done.returncode == (0 if args[0].startswith("--") else 2)


def test_help_of_a_verb_and_of_a_class(cli: Cli) -> None:
    assert "--trainer.max_epochs" in cli("fit", "--help").out
    assert "WIDTH" in cli("--model.help", "tiny").out
    assert "BATCH_SIZE" in cli("fit", "--data.help=TinyData").out
    assert cli("--model.help", "tny").errors == ["error: 'tny' is not a known method. Did you mean tiny?"]


def shadowing(folder: Path) -> Path:
    """A user's own folders called as this project's packages."""
    for name in ("losses", "datamodules"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text("raise SystemExit('the wrong package')")
    return folder


@pytest.mark.parametrize("pythonpath", ["", "."])
@pytest.mark.parametrize(
    "command", [["-m", "zoo.cli", "fit", "-c", "zoo:none"], ["-c", "import zoo.tools; zoo.tools.main(['losses'])"]]
)
def test_folders_of_the_user_do_not_stand_before_this_projects(
    tmp_path: Path, command: list[str], pythonpath: str
) -> None:
    env = {**os.environ, "PYTHONPATH": pythonpath}
    done = subprocess.run(
        [sys.executable, *command], cwd=shadowing(tmp_path), env=env, capture_output=True, text=True, check=False
    )
    assert "the wrong package" not in done.stderr
    assert "cross_entropy" in done.stdout or "zoo:none does not come with this project" in done.stderr


def test_another_folder_that_hides_this_project_is_named(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(shadowing(tmp_path / "other"))}
    done = subprocess.run(
        [sys.executable, "-m", "zoo.cli", "--help"], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: The package 'losses' of this project is hidden by ")


def test_another_owner_of_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import EntryPoint

    from zoo.commands import ownership

    ours = EntryPoint("lightning", ownership.OURS, "console_scripts")
    theirs = EntryPoint("lightning", "lightning_sdk.cli.entrypoint:main_cli", "console_scripts")
    monkeypatch.setattr(ownership, "entry_points", lambda **kwargs: [ours])
    assert ownership.note() is None
    monkeypatch.setattr(ownership, "entry_points", lambda **kwargs: [ours, theirs])
    assert "lightning_sdk.cli.entrypoint:main_cli installs a command called lightning too" in ownership.note()
