"""Ctrl-C in training: a checkpoint from between two optimizer steps, one line that names it, exactly on from there."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import lightning.pytorch as L
import pytest
import torch

from tests.support.ranks import ddp, on_ranks
from tests.support.runs import differences, state_of
from tests.toy.plain import Calls, Plain, toy_data, trainer
from zoo.callbacks import Checkpoints
from zoo.interrupt import Interruptible

STEPS = 10  # of the whole run: 2 epochs of 5 batches


def press(times: int = 1) -> None:
    for _ in range(times):
        os.kill(os.getpid(), signal.SIGINT)


def presser(hook: str, batch: int, times: int = 1) -> L.Callback:
    """Presses in `hook`, after `batch` batches of the run have begun."""
    pressed = []

    def call(running, model):
        if model.batches_begun >= batch and not pressed:
            pressed.append(0)
            press(times)

    return Calls(**{hook: call})


def fit(folder: Path, *others: L.Callback, resume: Path | None = None, **arguments) -> None:
    data = toy_data(folder.parent)
    checkpoints = Checkpoints(every_n_steps=arguments.pop("every_n_steps", None))
    callbacks = [*others, Interruptible(checkpoints), checkpoints]
    running = trainer(folder, callbacks=callbacks, **arguments)
    running.fit(Plain(), data, ckpt_path=resume, weights_only=bool(resume))


def interrupted(folder: Path, *others: L.Callback, **arguments) -> None:
    with pytest.raises(SystemExit) as stop:
        fit(folder, *others, **arguments)
    assert isinstance(stop.value.__context__, KeyboardInterrupt)


def last(folder: Path) -> Path:
    return folder / "checkpoints" / "last.ckpt"


def steps_in(path: Path) -> int:
    return torch.load(path, weights_only=True)["global_step"]


@pytest.mark.parametrize(
    ("hook", "batch", "accumulate", "saved"),
    [
        ("on_train_batch_start", 2, 1, 3),
        ("on_before_optimizer_step", 2, 1, 3),
        ("on_before_zero_grad", 7, 1, 8),
        ("on_train_batch_end", 2, 1, 3),
        ("on_before_backward", 1, 3, 1),  # windows of 3 and 2 batches
        ("on_train_batch_start", 4, 1, 5),  # an epoch's last batch: its validation is waited for
        ("on_validation_start", 4, 1, 5),
    ],
)
def test_the_running_step_is_finished_and_saved_and_the_run_goes_on_from_there_exactly(
    tmp_path, capsys, hook, batch, accumulate, saved
):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    arguments = {"accumulate_grad_batches": accumulate}
    interrupted(cut, presser(hook, batch), **arguments)
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Interrupted")]
    assert steps_in(last(cut)) == saved
    assert said == [
        f"Interrupted at epoch {batch // 5 + (saved == 5)}, step {saved}. To go on from step {saved}: "
        f"--ckpt_path {last(cut)}"
    ]
    fit(whole, **arguments)
    fit(cut, resume=last(cut), **arguments)
    assert differences(state_of(last(whole)), state_of(last(cut))) == []


def test_a_second_one_ends_it_at_once_and_leaves_what_was_saved(tmp_path, capsys):
    interrupted(tmp_path / "cut", presser("on_before_optimizer_step", 7, times=2), every_n_steps=2)
    assert steps_in(last(tmp_path / "cut")) == 6
    assert "step 7. To go on from step 6: --ckpt_path" in capsys.readouterr().err


def test_before_the_first_checkpoint_it_says_so(tmp_path, capsys):
    interrupted(tmp_path / "cut", presser("on_before_optimizer_step", 1, times=2))
    assert "Interrupted at epoch 0, step 1, before this run wrote a checkpoint." in capsys.readouterr().err


def test_while_a_checkpoint_is_written_that_is_finished(tmp_path, monkeypatch):
    replace, pressed = os.replace, []

    def pressing(source, target):
        if not pressed:
            pressed.append(0)
            press()
        replace(source, target)

    monkeypatch.setattr("zoo.callbacks.os.replace", pressing)
    interrupted(tmp_path / "cut", every_n_steps=2)
    assert steps_in(last(tmp_path / "cut")) == 3
    assert os.listdir(tmp_path / "cut" / "checkpoints") == ["last.ckpt"]


def test_in_the_last_epochs_validation_the_run_ends_as_ever(tmp_path, capsys):
    fit(tmp_path / "cut", presser("on_validation_start", 9))
    assert steps_in(last(tmp_path / "cut")) == STEPS
    assert "Interrupted" not in capsys.readouterr().err


class Bug(Exception):
    pass


def raising(running, model):
    raise Bug


@pytest.mark.parametrize("end", ["whole", "interrupted", "error"])
def test_afterwards_ctrl_c_is_what_it_was(tmp_path, end):
    before = signal.getsignal(signal.SIGINT)
    if end == "whole":
        fit(tmp_path / "cut")
    elif end == "interrupted":
        interrupted(tmp_path / "cut", presser("on_train_batch_end", 2))
    else:
        with pytest.raises(Bug):
            fit(tmp_path / "cut", Calls(on_train_batch_end=raising))
    assert signal.getsignal(signal.SIGINT) == before


def stop_on_ranks(folder: str) -> int:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # processes of a job in the background ignore it
    interrupted(Path(folder), presser("on_train_batch_start", 1), every_n_steps=1, **ddp())
    return steps_in(last(Path(folder)))


def test_several_ranks_end_at_once_with_the_checkpoint_written_last(tmp_path):
    toy_data(tmp_path).prepare_data()
    assert on_ranks(2, stop_on_ranks, str(tmp_path / "cut")) == [1, 1]


class PressAll(L.Callback):
    """Ctrl-C as a terminal sends it: to all processes of the run, reading ones too, long before the step ends."""

    def on_train_batch_start(self, running, model, batch, batch_idx):
        if running.current_epoch == 1 and batch_idx == 1 and not os.environ.get("RESUMED"):
            os.killpg(os.getpgid(0), signal.SIGINT)


@pytest.mark.slow
def test_the_command_exits_with_130_and_goes_on(tmp_path):
    command = [
        *(sys.executable, "-m", "zoo.cli", "fit", "--model=tests.support.tiny.Tiny"),
        *("--data=tests.support.tiny.TinyData", "--data.demo=30", "--data.batch_size=3", "--data.num_workers=2"),
        *("--trainer.max_epochs=2", "--trainer.accelerator=cpu", "--trainer.enable_model_summary=false"),
        *("--trainer.accumulate_grad_batches=8", "--trainer.callbacks=[tests.test_interrupt.PressAll]"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}

    def run(*options: str, **extra: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [*command, *options],
            cwd=tmp_path,
            env=environment | extra,
            capture_output=True,
            text=True,
            start_new_session=True,
            check=False,
        )

    def checkpoint(version: int) -> Path:
        return tmp_path / f"runs/tiny/tinydata/version_{version}/checkpoints/last.ckpt"

    cut = run()
    assert cut.returncode == 130, cut.stderr
    assert "Traceback" not in cut.stderr
    assert cut.stderr.count("Ctrl-C:") == 1  # reading processes keep still
    relative = checkpoint(0).relative_to(tmp_path)
    assert cut.stderr.splitlines()[-1] == (
        f"Interrupted at epoch 1, step 3. To go on from step 3: --ckpt_path {relative}"
    )
    for options in (["--ckpt_path", "last"], []):
        ended = run(*options, RESUMED="1")
        assert ended.returncode == 0, ended.stderr
    assert differences(state_of(checkpoint(2)), state_of(checkpoint(1))) == []
