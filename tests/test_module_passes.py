"""Looks at a whole split between steps: what they give, when they run, and that a cut changes nothing of it."""

import contextlib
import random
from pathlib import Path

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from torch import nn

from tests.support.ranks import ddp, on_ranks
from tests.support.runs import differences
from tests.toy.plain import Calls, Plain, toy_data, trainer
from zoo.callbacks import Checkpoints
from zoo.core.randomness import isolated

BATCHES = 5  # per epoch of toy_data with its defaults


@pytest.fixture(autouse=True)
def seeded():
    with isolated("tests"):
        yield


# -- looks at the data ------------------------------------------------------------------------------------------------


class Looking(Plain):
    """Looks at the training set in the middle of an epoch and keeps what it found."""

    def __init__(self, at: int, split: str, augment: bool) -> None:
        super().__init__()
        self.at, self.look = at, {"split": split, "augment": augment}
        self.frozen = nn.Dropout(0.5)

    def on_train_batch_start(self, batch, batch_idx):
        super().on_train_batch_start(batch, batch_idx)
        if self.batches_begun == self.at:
            self.frozen.eval()
            before = self.all_states()
            self.found = self.data_pass(self.see, **self.look)
            self.states = before, self.all_states()

    def all_states(self):
        return (
            torch.get_rng_state().tolist(),
            np.random.get_state()[1].tolist(),  # noqa: NPY002
            random.getstate(),
            [part.training for part in self.modules()],
            torch.is_grad_enabled(),
        )

    def see(self, batch):
        torch.rand(3), np.random.rand(), random.random()  # noqa: NPY002
        self.inside = (self.training, self.frozen.training, torch.is_grad_enabled())
        left = batch["modalities"]["left"]
        return {"left": left, "index": batch["index"], "embedded": self.left(left), "half": left.bfloat16()}


def looked(folder, data=None, at=7, split="train", augment=False, **arguments):
    model = Looking(at, split, augment)
    trainer(folder, **arguments).fit(model, data or toy_data(folder))
    return model


def test_a_data_pass_gives_a_row_per_sample_in_the_data_sets_order(tmp_path):
    model = looked(tmp_path)
    arrays = np.load(tmp_path / "data" / "train.npz")
    assert model.found["index"].tolist() == list(range(23))
    assert torch.equal(model.found["left"], torch.tensor(arrays["left"]).float())
    assert model.found["half"].dtype == torch.bfloat16
    assert not model.found["embedded"].requires_grad


@pytest.mark.parametrize(("split", "n"), [("val", 13), ("test", 17)])
def test_a_data_pass_takes_any_split(tmp_path, split, n):
    assert looked(tmp_path, split=split).found["index"].tolist() == list(range(n))


def test_a_data_pass_leaves_randomness_and_modes_as_they_were(tmp_path):
    model = looked(tmp_path)
    before, after = model.states
    assert before == after
    assert True in before[3]
    assert False in before[3]
    assert before[4] is True
    assert model.inside == (False, False, False)


def test_a_data_pass_augments_by_the_rule_of_the_running_epoch(tmp_path):
    data = toy_data(tmp_path)
    found = looked(tmp_path, data, augment=True).found["left"]
    expected = torch.cat([batch["modalities"]["left"] for batch in data.pass_loader("train", augment=True, epoch=1)])
    assert torch.equal(found, expected)
    assert not torch.equal(found, looked(tmp_path).found["left"])


def test_a_data_pass_converts_its_input_as_training_does(tmp_path):
    found = looked(tmp_path, precision="64-true").found
    assert found["embedded"].dtype == torch.float64


def test_what_replaces_the_sample_of_a_bad_file_stands_in_its_row(tmp_path):
    data = toy_data(tmp_path, on_bad_file="skip")
    data.prepare_data()
    with np.load(tmp_path / "data" / "train.npz") as arrays:
        changed = {name: arrays[name].copy() for name in arrays.files}
    changed["left"][4, 0] = np.nan
    np.savez(tmp_path / "data" / "train.npz", **changed)
    with pytest.warns(UserWarning, match="sample 4 is broken"):
        found = looked(tmp_path, data).found
    index = found["index"].tolist()
    assert index == [*range(4), index[4], *range(5, 23)]
    assert index[4] != 4
    assert torch.equal(found["left"], torch.tensor(changed["left"]).float()[found["index"]])


def look_on_ranks(folder: str) -> dict:
    return looked(Path(folder), at=3, augment=True, **ddp()).found


def test_a_data_pass_gives_every_rank_the_same_rows_as_one_process(tmp_path):
    looked(tmp_path)  # writes the data
    ranks = on_ranks(3, look_on_ranks, str(tmp_path))
    loader = toy_data(tmp_path).pass_loader("train", augment=True, epoch=1)  # 2 batches per epoch on 3 ranks
    rows = [batch["modalities"]["left"] for batch in loader]
    for found in ranks:
        assert found["index"].tolist() == list(range(23))
        assert torch.equal(found["left"], torch.cat(rows))
        assert torch.equal(found["half"], torch.cat(rows).bfloat16())


# -- learning between steps -------------------------------------------------------------------------------------------


class Meta(Plain):
    """Learns a number of its own, on batches that it keeps, after every third step."""

    def __init__(self) -> None:
        super().__init__()
        self.offset, self.seen = nn.Parameter(torch.zeros(()), requires_grad=False), []
        self.add_pass("meta", self._learn, every_steps=3, first=1)

    def _learn(self) -> None:
        self.meta_pass(self._step, "val", batches=5, batch_size=4)

    def _step(self, batch):
        offset = self.offset.detach().requires_grad_()
        loss = (batch["modalities"]["left"].mean() - offset).square()
        (gradient,) = torch.autograd.grad(loss, offset)
        self.offset.sub_(gradient * 0.1)
        self.seen.append((self.steps_done, batch["index"].tolist(), batch["modalities"]["left"].sum().item()))


def test_a_meta_pass_gives_as_many_shuffled_augmented_batches_as_asked_for(tmp_path):
    model = Meta()
    trainer(tmp_path, epochs=1).fit(model, toy_data(tmp_path))
    first = [index for step, index, _ in model.seen if step == 1]
    assert [len(index) for index in first] == [4, 4, 4, 1, 4]  # 13 samples, then anew
    order = [index for indices in first[:4] for index in indices]
    assert sorted(order) == list(range(13)) != order
    assert {step for step, *_ in model.seen} == {1, 4}
    assert len({total for *_, total in model.seen}) == 10
    assert model.offset != 0
    again = Meta()
    trainer(tmp_path, epochs=1).fit(again, toy_data(tmp_path))
    assert again.seen == model.seen


def learn_on_ranks(folder: str) -> list:
    model = Meta()
    trainer(Path(folder), epochs=1, max_steps=2, **ddp()).fit(model, toy_data(Path(folder), batch_size=2))
    return [model.seen, model.offset.item()]


def test_a_meta_pass_shows_all_ranks_what_one_process_sees(tmp_path):
    model = Meta()
    trainer(tmp_path, epochs=1, max_steps=2).fit(model, toy_data(tmp_path))
    first, second = on_ranks(2, learn_on_ranks, str(tmp_path))
    assert first == second == [model.seen, model.offset.item()]


# -- passes -----------------------------------------------------------------------------------------------------------


class Cut(Exception):
    """Ends a run where a test says, as a kill would."""


def cut_after(batch: int) -> Calls:
    """Stop when this many batches were trained on and what follows a batch (a checkpoint, a validation) is done."""

    def stop(running, model):
        if model.batches_begun == batch:
            raise Cut

    return Calls(on_train_batch_start=stop)


def final_state(running: L.Trainer, model: L.LightningModule) -> dict:
    return {
        "weights": model.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in running.optimizers],
        "steps": model.steps_done,
        "passes": {name: one.done for name, one in model._passes.items()},
    }


class Passing(Plain):
    """Two passes that note when they ran and leave a mark on the weights, in part a random one."""

    def __init__(self, steps: int = 3, epochs: int = 1, **arguments) -> None:
        super().__init__(**arguments)
        self.ran: list[tuple] = []
        self.register_buffer("mark", torch.zeros(()))
        self.add_pass("by steps", lambda: self._note("by steps"), every_steps=steps)
        self.add_pass("by epochs", lambda: self._note("by epochs"), every_epochs=epochs)

    def _note(self, name: str) -> None:
        self.ran.append((name, self.steps_done, self.current_epoch, self.training, torch.is_grad_enabled()))
        found = self.data_pass(lambda batch: {"noise": torch.rand(len(batch["index"]))}, augment=True)
        # Not in place: what is made here must be of use to training's gradients.
        self.mark = self.mark * 0.9 + found["noise"].mean() + torch.rand(())

    def terms(self, batch):
        terms = super().terms(batch)
        return terms | {"task": terms["task"] * (1 + self.mark)}

    def when(self, name: str) -> list[tuple[int, int]]:
        return [(steps, epoch) for ran, steps, epoch, *_ in self.ran if ran == name]


SETTINGS = {
    "validation after each epoch": {},
    "validation within the epoch": {"val_check_interval": 2},
    "validation at a pass": {"val_check_interval": 3},
    "no validation": {"limit_val_batches": 0},
    "sanity check": {"num_sanity_val_steps": 2},
}


@pytest.mark.parametrize("arguments", SETTINGS.values(), ids=SETTINGS)
def test_passes_run_once_after_exactly_their_steps_and_epochs_whatever_validation_does(tmp_path, arguments):
    model = Passing(steps=3, epochs=2)
    trainer(tmp_path, epochs=5, **arguments).fit(model, toy_data(tmp_path))
    steps = [step for step, _ in model.when("by steps")]
    assert steps == [3, 6, 9, 12, 15, 18, 21, 24]
    assert model.when("by epochs") == [(10, 1), (20, 3)]
    assert all(training is False for *_, training, _ in model.ran)


@pytest.mark.parametrize("interval", [3, 5])
def test_validation_sees_what_passes_found_at_its_boundary(tmp_path, interval):
    seen = []

    class Validating(Passing):
        def on_validation_epoch_start(self):
            seen.append((self.steps_done, [name for name, steps, *_ in self.ran if steps == self.steps_done]))

    trainer(tmp_path, epochs=2, val_check_interval=interval).fit(Validating(steps=interval), toy_data(tmp_path))
    at_3, at_5, at_10 = ["by steps"], ["by steps", "by epochs"], ["by steps", "by epochs"]
    assert seen == ([(3, at_3), (8, [])] if interval == 3 else [(5, at_5), (10, at_10)])


def test_passes_count_optimizer_steps(tmp_path):
    model = Passing(steps=2, epochs=1)
    trainer(tmp_path, epochs=2, accumulate_grad_batches=2).fit(model, toy_data(tmp_path))
    assert model.when("by steps") == [(2, 0), (4, 1), (6, 1)]
    assert model.when("by epochs") == [(3, 0), (6, 1)]


def test_passes_may_use_gradients_wherever_they_run(tmp_path):
    model = Passing()
    trainer(tmp_path, epochs=2, val_check_interval=3).fit(model, toy_data(tmp_path))
    assert all(gradients for *_, gradients in model.ran)


RESUMES = {
    **SETTINGS,
    "accumulation": {"accumulate_grad_batches": 2},
    "accumulation, validation within": {"accumulate_grad_batches": 2, "val_check_interval": 2},
    "a number of steps": {"max_epochs": -1, "max_steps": 13},
    "a number of steps, validation within": {"max_epochs": -1, "max_steps": 11, "val_check_interval": 2},
    "a number of steps, accumulation": {"max_epochs": -1, "max_steps": 6, "accumulate_grad_batches": 2},
    "steps and epochs": {"max_epochs": 2, "max_steps": 100, "limit_val_batches": 0},
}


def cut_and_resumed(folder, cuts: tuple[int, ...], **arguments) -> tuple[dict, dict[str, list]]:
    """The end of a run that was cut after so many batches, each time resumed, and when its passes ran.

    What a run did after its last checkpoint is lost and does not count.
    """
    ran: dict[str, list] = {"by steps": [], "by epochs": []}
    for number in range(len(cuts) + 1):
        model = Passing()
        callbacks = [cut_after(cuts[number])] if number < len(cuts) else []
        running = trainer(folder, callbacks=[*callbacks, Checkpoints(every_n_steps=1)], **arguments)
        last = folder / "checkpoints" / "last.ckpt"
        with contextlib.suppress(Cut):
            running.fit(model, toy_data(folder.parent), ckpt_path=last if number else None, weights_only=True)
        kept = torch.load(last, weights_only=True)["zoo"]["passes"]
        for name, times in ran.items():
            period = model._passes[name].every_steps or model._passes[name].every_epochs
            times += model.when(name)[: kept[name] // period - len(times)]
    return final_state(running, model), ran


@pytest.mark.parametrize("arguments", RESUMES.values(), ids=RESUMES)
def test_a_run_cut_anywhere_and_resumed_ends_as_the_uncut_one_and_runs_each_pass_once(tmp_path, arguments):
    whole = Passing()
    running = trainer(tmp_path, **arguments)
    running.fit(whole, toy_data(tmp_path))
    expected = final_state(running, whole)
    batches = whole.batches_begun
    for cuts in [*((batch,) for batch in range(2, batches + 1)), (3, BATCHES, batches - 1)]:
        folder = tmp_path / str(cuts)
        state, ran = cut_and_resumed(folder, cuts, **arguments)
        assert differences(expected, state) == [], cuts
        assert ran == {name: whole.when(name) for name in ran}, cuts
