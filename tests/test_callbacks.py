"""Checkpoints: best and last, whole or not at all, between two optimizer steps, carried along when a run goes on."""

import os
from pathlib import Path

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins.io import TorchCheckpointIO

from tests.support.ranks import ddp, on_ranks
from tests.toy.plain import Calls, Plain, toy_data, trainer
from zoo import callbacks
from zoo.callbacks import Checkpoints
from zoo.core.errors import RecipeError

NAN = float("nan")


class Scripted(Plain):
    """Its validation logs what a test says, epoch by epoch."""

    def __init__(self, scores: tuple[float, ...] = (), **arguments) -> None:
        super().__init__(**arguments)
        self.scores = scores

    def validation_step(self, batch, batch_idx):
        if self.scores:
            self.log("val/score", self.scores[self.current_epoch], batch_size=1)


class ManualScripted(Scripted):
    def __init__(self, accumulate=1, **arguments):
        super().__init__(**arguments)
        self.automatic_optimization, self.accumulate = False, accumulate

    def training_step(self, batch, batch_idx):
        self.manual_step(super().training_step(batch, batch_idx), accumulate=self.accumulate)


def fitted(folder: Path, scores=(), checkpoints: Checkpoints | None = None, model=None, data=None, **arguments):
    checkpoints = checkpoints or Checkpoints(monitor="val/score")
    resumed = arguments.pop("resume", None)
    running = trainer(
        folder, epochs=len(scores) or 2, callbacks=[checkpoints, *arguments.pop("others", [])], **arguments
    )
    running.fit(model or Scripted(scores), data or toy_data(folder), ckpt_path=resumed, weights_only=bool(resumed))
    return checkpoints


def epoch_of(path: Path) -> int:
    return torch.load(path, weights_only=True)["epoch"]


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder / "checkpoints"))


# -- which ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "mode", "best"),
    [
        ((0.1, 0.3, 0.2), "max", 1),
        ((0.1, 0.3, 0.2), "min", 0),
        ((0.3, 0.3, 0.1), "max", 0),  # the first of equals
        ((-1.0, -3.0, -2.0), "max", 0),
        ((NAN, 0.1, NAN), "max", 1),
        ((0.2, NAN, 0.1), "min", 2),
    ],
)
def test_best_is_the_best_epoch_and_last_the_last(tmp_path, scores, mode, best):
    checkpoints = fitted(tmp_path, scores, Checkpoints(monitor="val/score", mode=mode))
    assert names(tmp_path) == ["best.ckpt", "last.ckpt"]
    assert epoch_of(tmp_path / "checkpoints" / "best.ckpt") == best
    assert epoch_of(tmp_path / "checkpoints" / "last.ckpt") == 2
    assert checkpoints.best_model_path == str(tmp_path / "checkpoints" / "best.ckpt")
    assert checkpoints.best_score == pytest.approx(scores[best])


def test_a_metric_that_is_never_a_number_gives_no_best(tmp_path):
    checkpoints = fitted(tmp_path, (NAN, NAN))
    assert names(tmp_path) == ["last.ckpt"]
    assert checkpoints.best_model_path == ""


def test_without_a_monitor_only_the_last_is_kept(tmp_path):
    assert fitted(tmp_path, (0.1, 0.2), Checkpoints()).best_model_path == ""
    assert names(tmp_path) == ["last.ckpt"]


def test_the_best_checkpoint_knows_that_it_is(tmp_path):
    fitted(tmp_path, (0.1, 0.3, 0.2))
    (state,) = torch.load(tmp_path / "checkpoints" / "best.ckpt", weights_only=True)["callbacks"].values()
    assert state["best_score"] == pytest.approx(0.3)


def test_lightning_finds_the_best(tmp_path):
    running = trainer(tmp_path, callbacks=[Checkpoints(monitor="val/accuracy")])
    data = toy_data(tmp_path)
    running.fit(Plain(), data)
    (found,) = running.test(datamodule=data, ckpt_path="best", weights_only=True, verbose=False)
    assert 0 <= found["val/accuracy"] <= 1


def test_validation_every_second_epoch_is_waited_for(tmp_path):
    fitted(tmp_path, (0.9, 0.1, 0.9, 0.2), check_val_every_n_epoch=2)
    assert epoch_of(tmp_path / "checkpoints" / "best.ckpt") == 3


def test_checkpoints_lie_in_the_loggers_folder(tmp_path):
    fitted(tmp_path, (0.1, 0.2), logger=CSVLogger(tmp_path, name="run", version=3))
    assert names(tmp_path / "run" / "version_3") == ["best.ckpt", "last.ckpt"]


def test_a_trial_run_leaves_nothing(tmp_path):
    fitted(tmp_path, (0.1, 0.2), fast_dev_run=True)
    assert not (tmp_path / "checkpoints").exists()


# -- the monitor ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sanity", [0, 1])
def test_a_mistyped_monitor_is_one_error_with_what_is_logged(tmp_path, sanity):
    trained_on = []
    note = Calls(on_train_batch_end=lambda running, model: trained_on.append(0))
    with pytest.raises(RecipeError) as caught:
        fitted(tmp_path, (0.1, 0.2), Checkpoints(monitor="val/scroe"), num_sanity_val_steps=sanity, others=[note])
    assert str(caught.value) == "The monitor 'val/scroe' of Checkpoints is not logged. Did you mean val/score?"
    assert len(trained_on) == (0 if sanity else 5)


def test_a_monitor_like_nothing_lists_all(tmp_path):
    with pytest.raises(RecipeError, match="There are: train/loss, train/loss/align, train/loss/task, val/score"):
        fitted(tmp_path, (0.1, 0.2), Checkpoints(monitor="zzz"))


def test_a_training_loss_may_be_the_monitor(tmp_path):
    checkpoints = fitted(tmp_path, checkpoints=Checkpoints(monitor="train/loss", mode="min"), limit_val_batches=0)
    assert names(tmp_path) == ["best.ckpt", "last.ckpt"]
    assert checkpoints.best_score > 0


def fit_on_ranks(folder: str) -> dict:
    """The monitor is a loss that each rank sees another value of: on rank 1 it rises, on rank 0 it falls."""
    model = Scripted()
    checkpoints = Checkpoints(monitor="train/only_here", mode="min")

    def log(running, model):
        falls = running.global_rank == 0
        model.log("train/only_here", 10.0 + model.batches_begun * (-1 if falls else 1))

    model.on_train_batch_end = lambda *args: log(model.trainer, model)
    fitted(Path(folder), checkpoints=checkpoints, model=model, limit_val_batches=0, **ddp())
    return {"score": checkpoints.best_score, "path": checkpoints.best_model_path}


def test_ranks_that_see_other_values_agree_on_the_first_ranks(tmp_path):
    toy_data(tmp_path).prepare_data()
    first, second = on_ranks(2, fit_on_ranks, str(tmp_path))
    assert first == second
    assert epoch_of(tmp_path / "checkpoints" / "best.ckpt") == 1


# -- when -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def saves(tmp_path, monkeypatch):
    """Fits, and gives (optimizer steps, index of the batch, at a boundary) of each writing of a checkpoint."""

    def fit(model: Plain, every_n_steps: int | None, **arguments) -> list[tuple[int, int, bool]]:
        found, save = [], Checkpoints._save

        def noted(checkpoints, running, name):
            module = running.lightning_module
            found.append((module.steps_done, module.batches_begun, module.at_step_boundary()))
            save(checkpoints, running, name)

        with monkeypatch.context() as patched:
            patched.setattr(Checkpoints, "_save", noted)
            fitted(tmp_path, checkpoints=Checkpoints(every_n_steps=every_n_steps), model=model, **arguments)
        return found

    return fit


def test_the_last_is_written_at_each_epochs_end_and_between_every_so_many_steps(saves):
    assert [step for step, *_ in saves(Plain(), None)] == [5, 10]
    assert [step for step, *_ in saves(Plain(), 1)] == list(range(1, 11))
    assert [step for step, *_ in saves(Plain(), 3)] == [3, 5, 6, 9, 10]


@pytest.mark.parametrize("kind", ["automatic", "manual"])
def test_nothing_is_written_while_gradients_are_accumulated(saves, kind):
    if kind == "automatic":
        found = saves(Plain(), 1, accumulate_grad_batches=3)
    else:
        found = saves(ManualScripted(accumulate=3), 1)
    # 5 batches per epoch: windows of 3 and of 2; the second ends with the epoch.
    assert found == [(1, 2, True), (2, 4, True), (3, 7, True), (4, 9, True)]


def test_a_written_checkpoint_counts_the_steps_that_were_done(tmp_path):
    counted = []

    def read(running, model):
        path = tmp_path / "checkpoints" / "last.ckpt"
        if path.exists():
            counted.append((model.steps_done, torch.load(path, weights_only=True)["global_step"]))

    fitted(tmp_path, checkpoints=Checkpoints(every_n_steps=2), others=[Calls(on_train_batch_start=read)])
    assert counted == [(2, 2), (3, 2), (4, 4), (5, 5), (6, 6), (7, 6), (8, 8), (9, 8)]


# -- whole or not at all ----------------------------------------------------------------------------------------------


class Killed(BaseException):
    """As a kill: no handler of errors sees it."""


def killed_on_second_save(monkeypatch, how: str) -> None:
    calls = []
    if how == "renaming":
        replace = os.replace

        def failing(source, target):
            calls.append(0)
            if len(calls) == 2:
                raise Killed
            replace(source, target)

        monkeypatch.setattr(callbacks.os, "replace", failing)
    else:
        save = TorchCheckpointIO.save_checkpoint

        def failing(self, checkpoint, path, storage_options=None):
            calls.append(0)
            if len(calls) == 2:
                Path(path).write_bytes(b"half a checkpoint")
                raise Killed
            save(self, checkpoint, path, storage_options)

        monkeypatch.setattr(TorchCheckpointIO, "save_checkpoint", failing)


@pytest.mark.parametrize("how", ["writing", "renaming"])
def test_a_run_killed_while_saving_still_has_the_previous_checkpoint_and_goes_on_from_it(tmp_path, monkeypatch, how):
    data = toy_data(tmp_path)
    with monkeypatch.context() as patched:
        killed_on_second_save(patched, how)
        with pytest.raises(Killed):
            fitted(tmp_path / "cut", checkpoints=Checkpoints(every_n_steps=2), model=Plain(), data=data)
    last = tmp_path / "cut" / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == 2

    resumed, whole = Plain(), Plain()
    fitted(tmp_path / "cut", checkpoints=Checkpoints(every_n_steps=2), model=resumed, data=data, resume=last)
    fitted(tmp_path / "whole", checkpoints=Checkpoints(), model=whole, data=data)
    assert all(torch.equal(value, resumed.state_dict()[key]) for key, value in whole.state_dict().items())
    assert names(tmp_path / "cut") == ["last.ckpt"]


# -- going on ---------------------------------------------------------------------------------------------------------


def test_a_resumed_run_beats_the_best_so_far_or_keeps_it(tmp_path):
    fitted(tmp_path, (0.1, 0.5))
    last = tmp_path / "checkpoints" / "last.ckpt"
    fitted(tmp_path, (0.1, 0.5, 0.4), resume=last)
    assert epoch_of(tmp_path / "checkpoints" / "best.ckpt") == 1
    fitted(tmp_path, (0.1, 0.5, 0.4, 0.6), resume=last)
    assert epoch_of(tmp_path / "checkpoints" / "best.ckpt") == 3


def test_a_run_resumed_in_a_new_folder_takes_the_best_with_it(tmp_path):
    data = toy_data(tmp_path)
    fitted(tmp_path / "a", (0.1, 0.5), data=data)
    old = tmp_path / "a" / "checkpoints"
    checkpoints = fitted(tmp_path / "b", (0.1, 0.5, 0.4), data=data, resume=old / "last.ckpt")
    new = tmp_path / "b" / "checkpoints"
    assert (new / "best.ckpt").read_bytes() == (old / "best.ckpt").read_bytes()
    assert checkpoints.best_model_path == str(new / "best.ckpt")
    assert epoch_of(new / "last.ckpt") == 2
    assert epoch_of(old / "last.ckpt") == 1


def test_a_best_that_is_gone_is_told_and_the_run_starts_without(tmp_path):
    data = toy_data(tmp_path)
    fitted(tmp_path / "a", (0.1, 0.5), data=data)
    (tmp_path / "a" / "checkpoints" / "best.ckpt").unlink()
    last = tmp_path / "a" / "checkpoints" / "last.ckpt"
    with pytest.warns(UserWarning, match="The best checkpoint so far is no longer at"):
        fitted(tmp_path / "b", (0.1, 0.5, 0.4), data=data, resume=last)
    assert epoch_of(tmp_path / "b" / "checkpoints" / "best.ckpt") == 2


@pytest.mark.parametrize("changed", [{"monitor": "val/other"}, {"monitor": "val/score", "mode": "min"}])
def test_another_monitor_or_mode_starts_without_a_best(tmp_path, changed):
    class Both(Scripted):
        def validation_step(self, batch, batch_idx):
            super().validation_step(batch, batch_idx)
            self.log("val/other", self.scores[self.current_epoch], batch_size=1)

    fitted(tmp_path, (0.1, 0.5), model=Both((0.1, 0.5)))
    last = tmp_path / "checkpoints" / "last.ckpt"
    scores = (0.1, 0.5, 0.7) if "mode" in changed else (0.1, 0.5, 0.2)
    checkpoints = fitted(tmp_path, scores, Checkpoints(**changed), model=Both(scores), resume=last)
    assert checkpoints.best_score == pytest.approx(scores[-1])
