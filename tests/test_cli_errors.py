"""What a user mistypes: one line each, all at once, with place and near misses; exit code 2 and no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support.commands import RECIPE, Cli
from tests.support.tiny import TinyData

pytest_plugins = ["tests.support.command_fixtures"]


def test_all_typos_of_a_recipe_are_told_at_once(cli: Cli) -> None:
    cli.write(
        "bad.yaml",
        {
            "seed_everythin": 1,
            "trainer": {
                "max_epoch": 2,
                "callbacks": [
                    {"class_path": "EarlyStoping"},
                    {"class_path": "EarlyStopping", "init_args": {"monitr": "x"}},
                    {"class_path": "torch.optim.Adam2"},
                ],
            },
            "model": {
                "class_path": "Tiny",
                "init_args": {
                    "widht": 6,
                    "losses": {"tsk": {"weight": 1}, "task": {"name": "ring_l1"}},
                    "optimizer": {"class_path": "AdamW", "init_args": {"lrr": 1}},
                    "stages": [{"name": "all", "till": 3}],
                },
            },
            "data": {"class_path": "TinyDate"},
        },
    )
    result = cli("fit", "-c", "bad.yaml")
    assert result.code == 2
    wanted = [
        "error: bad.yaml: seed_everythin is not a key of a recipe. Did you mean seed_everything?",
        "error: bad.yaml: trainer.max_epoch is not an argument of the trainer. Did you mean max_epochs?",
        "error: bad.yaml: trainer.callbacks.0.class_path: 'EarlyStoping' is no Callback. Did you mean EarlyStopping?",
        "error: bad.yaml: trainer.callbacks.1.init_args.monitr is not an argument of EarlyStopping. Did you mean mon",
        "error: bad.yaml: trainer.callbacks.2.class_path: torch.optim has no class 'Adam2'. Did you mean Adam",
        "error: bad.yaml: model.init_args.widht is not an argument of Tiny. Did you mean width?",
        "error: bad.yaml: model.init_args.optimizer.init_args.lrr is not an argument of AdamW. Did you mean lr",
        "error: bad.yaml: data.class_path: 'TinyDate' is not a known data module. Did you mean TinyData",
        "error: bad.yaml: model.losses.tsk is not a slot of this method. Did you mean task?",
        "error: bad.yaml: model.losses.task takes kind classification",
        "error: bad.yaml: model.stages.0.till is not an option of a stage here.",
        "error: bad.yaml: trainer.callbacks.1: EarlyStopping needs monitor.",
    ]
    assert len(result.errors) == len(wanted)
    for line, start in zip(result.errors, wanted, strict=True):
        assert line.startswith(start)


def test_all_wrong_types_of_a_recipe_are_told_at_once(cli: Cli) -> None:
    cli.write(
        "bad.yaml",
        {
            "trainer": {
                "max_epochs": "many",
                "callbacks": [{"class_path": "EarlyStopping", "init_args": {"monitor": "x", "patience": "long"}}],
            },
            "model": {
                "class_path": "Tiny",
                "init_args": {"width": "wide", "optimizer": {"class_path": "AdamW", "init_args": {"lr": "high"}}},
            },
            "data": {"class_path": "TinyData", "init_args": {"batch_size": [5], "on_bad_file": "ignore"}},
        },
    )
    assert cli("fit", "-c", "bad.yaml").errors == [
        "error: bad.yaml: trainer.max_epochs must be int or null, not 'many'.",
        "error: bad.yaml: trainer.callbacks.0.init_args.patience must be int, not 'long'.",
        "error: bad.yaml: model.init_args.width must be int, not 'wide'.",
        "error: bad.yaml: model.init_args.optimizer.init_args.lr must be float or Tensor, not 'high'.",
        "error: bad.yaml: data.init_args.batch_size must be int, not [5].",
        "error: bad.yaml: data.init_args.on_bad_file must be 'stop' or 'skip', not 'ignore'.",
    ]


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (
            ["--trainer.max_epoch=2"],
            "--trainer.max_epoch is not an argument of the trainer. Did you mean --trainer.max_epochs?",
        ),
        (["--model.widht", "2"], "--model.widht is not an argument of Tiny. Did you mean --model.width?"),
        (
            ["--model.init_args.widht=2"],
            "--model.init_args.widht is not an argument of Tiny. Did you mean --model.init_args.width",
        ),
        (["--data.bath_size=2"], "--data.bath_size is not an argument of TinyData. Did you mean --data.batch_size?"),
        (["--modle.width=2"], "--modle is not a key of a recipe. Did you mean --model?"),
        (["--model=Tinny"], "--model: 'Tinny' is not a known method. Did you mean Tiny?"),
        (["--data=tinydatum"], "--data: 'tinydatum' is not a known data module. Did you mean tinydata"),
        (
            ["--model=no_such_package.Net"],
            "--model: there is no module 'no_such_package'. A module of your own must be installed",
        ),
        (["--model=tests.support.tiny.TinyData"], "--model: tests.support.tiny.TinyData is no ZooModule."),
        (["--model=tests.support.tiny.Tyny"], "--model: tests.support.tiny has no class 'Tyny'. Did you mean Tiny"),
        (["--trainer.max_epochs=x"], "--trainer.max_epochs must be int or null, not 'x'."),
        (["--trainer.max_epochs"], "--trainer.max_epochs needs a value."),
        (["--trainer.max_epochs", "--model.width=2"], "--trainer.max_epochs needs a value."),
        (["--model.optimizer.lr=1"], "--model.optimizer must be the class_path and init_args of Optimizer or null"),
        (["--model.optimizer=Adamm"], "--model.optimizer: 'Adamm' is no Optimizer. Did you mean Adam"),
        (["--model.losses.tsk.weight=1"], "model.losses.tsk is not a slot of this method. Did you mean task?"),
        (
            ["--model.losses.task=cros_entropy"],
            "model.losses.task: 'cros_entropy' is not a known loss. Did you mean cross_entropy?",
        ),
        (["--model.losses.task=ring_l1"], "model.losses.task takes kind classification"),
        (
            ["--model.losses.task.smoothing=1"],
            "model.losses.task.smoothing is not a setting of the loss 'cross_entropy'. Did you mean label_smoothing?",
        ),
        (["--model.losses.task.weight=much"], "model.losses.task.weight: 'much' is no weight; give a number."),
        (["--data.root=${HOME}/data"], "--data.root: ${…} is not replaced in recipes; write the value."),
        (
            ["--data=othertask"],
            "Tiny takes the task tiny, OtherTaskData gives other: pair a model and a data module of one task.",
        ),
        (["--model.num_classes=7"], "--model.num_classes says 7, the data of TinyData have 2 classes."),
        (["--model.num_classes=few"], "--model.num_classes must be int, not 'few'."),
        (["--trainer.max_epochs.first=1"], "--trainer.max_epochs must be int or null, not {'first': '1'}."),
        (["--model.width=0"], "model.width is 0; it must be at least 1."),
        (["--data.demo=null"], "TinyData: the folder data/tiny does not exist."),
        (["--trainer.devices=many"], "trainer: `devices` selected with `CPUAccelerator` should be an int > 0."),
        (["--trainer.accelerator=tpuu"], "trainer: You selected an invalid accelerator name"),
        (["--trainer.use_distributed_sampler=true"], "--trainer.use_distributed_sampler must be false"),
        (["--seed_everything=true"], "--seed_everything must be a whole number"),
        (["--trainer.callbacks.2.monitor=x"], "--trainer.callbacks.2: there are 0 in the list."),
        (
            ["--trainer.callbacks.monitor=x"],
            "--trainer.callbacks.monitor: the list is empty; add to it with --trainer.callbacks+=",
        ),
        (["--trainer=3"], "--trainer must be a mapping, not '3'."),
        (["stray"], "'stray' stands alone. Recipes follow -c, values follow their option."),
        (["-x"], "-x is not an option; -c is the only short one."),
        (["-c", "tyny.yaml"], "tyny.yaml: there is no such recipe. Did you mean tiny.yaml?"),
        (["-c", "zoo:shaspec/demmo"], "zoo:shaspec/demmo does not come with this project."),
        (["--ckpt_path=none.ckpt"], "none.ckpt does not exist."),
        (["--ckpt_path=s3://bucket/a.ckpt"], "--ckpt_path must be a file, best or last, not 's3://bucket/a.ckpt'."),
        (["--ckpt_path=last"], "ckpt_path last: no run below runs/"),
        (["--weights=none.safetensors"], "none.safetensors does not exist."),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_a_mistake_on_the_command_line_is_one_line(cli: Cli, options: list[str], wanted: str) -> None:
    cli.write("tiny.yaml", RECIPE)
    result = cli("fit", "-c", "tiny.yaml", *options)
    assert result.code == 2
    assert len(result.errors) == 1
    assert result.errors[0].startswith(f"error: {wanted}")


def test_unknown_verb_and_no_verb(cli: Cli) -> None:
    assert cli("fitt").errors == ["error: 'fitt' is not a verb of lightning. Did you mean fit?"]
    assert cli().errors == ["error: no verb is given: fit, validate, test or predict."]


def test_without_a_recipe_it_says_what_is_missing(cli: Cli) -> None:
    model, data = cli("fit").errors
    assert model.startswith("error: No method is named: give a recipe with -c, or --model and one of ")
    assert data.startswith("error: No data module is named: give a recipe with -c, or --data and one of ")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("trainer: {max_epochs: [1\nmodel: Tiny\n", "bad.yaml:2: did not find expected ',' or ']'."),
        ("trainer: {}\nmodel: Tiny\ntrainer: {}\n", "bad.yaml:3: trainer stands twice."),
        ("model: !!python/object/apply:os.system ['true']\n", "bad.yaml:1: could not determine a constructor for"),
        ("- model\n", "bad.yaml: a recipe is a mapping of trainer, model and data, not ['model']."),
        ("model: {class_path: Tiny, width: 3}\ndata: tinydata\n", "bad.yaml: model.width stands beside class_path"),
        ("model: {init_args: {width: 3}}\ndata: tinydata\n", "bad.yaml: model needs a class_path."),
        ("trainer: 3\nmodel: Tiny\ndata: tinydata\n", "bad.yaml: trainer must be a mapping, not 3."),
        ("model: {class_path: Tiny, init_args: [3]}\ndata: tinydata\n", "bad.yaml: model.init_args must be a mapping"),
        ("model: Tiny\ndata: tinydata\nweights: '${oc.env:HOME}'\n", "bad.yaml: weights: ${…} is not replaced"),
        ("model: Tiny\ndata: missing.yaml\n", "missing.yaml cannot be read"),
    ],
)  # fmt: skip
def test_a_malformed_recipe_is_one_line(cli: Cli, text: str, wanted: str) -> None:
    (cli.folder / "bad.yaml").write_text(text)
    result = cli("fit", "-c", "bad.yaml")
    assert result.code == 2
    assert len(result.errors) == 1
    assert result.errors[0].startswith(f"error: {wanted}")


def test_a_later_file_is_blamed_for_its_own_typo(cli: Cli) -> None:
    cli.write("tiny.yaml", RECIPE)
    cli.write("variant.yaml", {"model": {"init_args": {"widht": 4}}})
    assert (
        cli("fit", "-c", "tiny.yaml", "-c", "variant.yaml")
        .errors[0]
        .startswith("error: variant.yaml: model.init_args.widht")
    )


def spoil(path: Path) -> None:
    samples = np.load(path)
    samples[3] = np.nan
    np.save(path, samples)


def test_a_broken_sample_stops_training_with_one_line(cli: Cli) -> None:
    cli.write("tiny.yaml", RECIPE)
    assert cli("fit", "-c", "tiny.yaml").code == 0
    spoil(next(cli.folder.glob("data/demo/*/train.npy")))
    result = cli("fit", "-c", "tiny.yaml")
    assert (result.code, result.errors) == (2, ["error: sample 3 is broken."])


def test_debugging_keeps_the_traceback(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from zoo.core.errors import RecipeError

    monkeypatch.setenv("ZOO_DEBUG", "1")
    with pytest.raises(RecipeError):
        cli("fitt")


def test_a_bug_keeps_its_traceback(cli: Cli) -> None:
    cli.write("tiny.yaml", RECIPE)
    with pytest.raises(ZeroDivisionError):
        cli("fit", "-c", "tiny.yaml", "--model=tests.support.tiny.Buggy")


def test_an_interrupted_run_exits_with_130(cli: Cli) -> None:
    cli.write("tiny.yaml", RECIPE)
    assert cli("fit", "-c", "tiny.yaml", "--trainer.callbacks+=tests.support.tiny.Interrupt").code == 130


def test_ranks_do_not_repeat_what_is_wrong_with_the_recipe(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    result = cli("fitt")
    assert (result.code, result.err) == (2, "")


@pytest.mark.slow
def test_a_broken_sample_on_another_rank_is_told_once(cli: Cli) -> None:
    cli.write("tiny.yaml", RECIPE)
    TinyData(demo=12).prepare_data()
    spoil(cli.folder / "data/demo/tinydata-12/train.npy")
    script = cli.folder / "script.py"
    script.write_text("from tests.support.tiny import run\nrun()\n")
    args = ["fit", "-c", "tiny.yaml", "--trainer.devices=2", "--trainer.strategy=ddp"]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, script, *args], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if "error: " in line]
    assert lines.count("[rank 1] error: sample 3 is broken.") + lines.count("error: sample 3 is broken.") == 1


@pytest.fixture
def no_permissions():
    """Whoever runs the tests, root too, is asked for permissions meanwhile."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_a_folder_without_permission_is_one_line(cli: Cli, request: pytest.FixtureRequest) -> None:
    closed = cli.folder / "closed"
    closed.mkdir()
    cli.write("tiny.yaml", {**RECIPE, "data": {"class_path": "AVMNIST", "init_args": {"root": "closed/data"}}})
    fit = ["fit", "-c", "tiny.yaml", "--model=ShaSpecClassifier"]
    assert "closed/data does not exist" in cli(*fit).errors[0]
    cli.folder.chmod(0o755)
    closed.chmod(0)
    request.getfixturevalue("no_permissions")
    result = cli(*fit)
    assert (result.code, len(result.errors)) == (2, 1)
    assert "closed" in result.errors[0]
    assert "permission" in result.errors[0]
