"""What ZooModule gives every method: logged terms, keyed randomness, passes over the data, optimizers."""

import random

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from torch import nn

from losses.slots import Slot
from tests.support.runs import differences
from tests.toy.method import Toy
from tests.toy.plain import Calls, Plain, toy_data, trainer
from zoo.callbacks import Checkpoints
from zoo.core.randomness import isolated, seed_globals

BATCHES = 5  # per epoch of toy_data with its defaults


@pytest.fixture(autouse=True)
def seeded():
    with isolated("tests"):
        yield


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


# -- loss terms -------------------------------------------------------------------------------------------------------


class Recording(Plain):
    """Keeps what each batch's `total` was made of."""

    def training_step(self, batch, batch_idx):
        terms = self.terms(batch)
        total = self.total(terms, batch)
        at = {"step": self.steps_done, "epoch": self.current_epoch, "stage": self.stage.name}
        self.seen.append({slot: term.item() for slot, term in terms.items()} | at | {"total": total.item()})
        return total

    def on_train_start(self):
        self.seen = []


def test_the_total_is_the_weighted_sum_and_each_term_is_logged_under_its_slot(tmp_path):
    model = Recording()
    running = trainer(tmp_path, epochs=1)
    running.fit(model, toy_data(tmp_path))
    last = model.seen[-1]
    assert last["total"] == pytest.approx(last["task"] + 0.1 * last["align"])
    logged = {name: float(value) for name, value in running.callback_metrics.items() if name.startswith("train/")}
    assert logged == pytest.approx(
        {"train/loss": last["total"], "train/loss/task": last["task"], "train/loss/align": last["align"]}
    )


@pytest.mark.parametrize("slot", ["task", "align"])
def test_a_term_of_weight_zero_moves_nothing(tmp_path, slot):
    def trained(losses):
        model = Plain(losses=losses)
        trainer(tmp_path, epochs=1).fit(model, toy_data(tmp_path))
        return model.state_dict()

    assert differences(trained(None), trained({slot: {"weight": 0.0}})) != []
    both_off = trained({"task": {"weight": 0.0}, "align": {"weight": 0.0}})
    assert differences(both_off, Plain().state_dict()) == []


def test_ramps_count_optimizer_steps_not_batches(tmp_path):
    model = Recording(losses={"task": {"weight": 0.0}, "align": {"weight": {"ramp": [0.0, 1.0], "steps": 4}}})
    trainer(tmp_path, accumulate_grad_batches=2).fit(model, toy_data(tmp_path))
    assert [one["step"] for one in model.seen] == [0, 0, 1, 1, 2, 3, 3, 4, 4, 5]
    for one in model.seen:
        assert one["total"] == pytest.approx(min(one["step"] / 4, 1.0) * one["align"])


def test_ramps_may_count_epochs(tmp_path):
    model = Recording(losses={"task": {"weight": 0.0}, "align": {"weight": {"ramp": [1.0, 0.0], "epochs": 2}}})
    trainer(tmp_path, epochs=3).fit(model, toy_data(tmp_path))
    for one in model.seen:
        assert one["total"] == pytest.approx([1.0, 0.5, 0.0][one["epoch"]] * one["align"])


def test_stages_follow_the_optimizer_steps_of_the_run(tmp_path):
    model = Recording(stages=[{"name": "a", "until_step": 2}, {"name": "b", "until_epoch": 1}, {"name": "c"}])
    trainer(tmp_path, accumulate_grad_batches=2).fit(model, toy_data(tmp_path))
    assert [one["stage"] for one in model.seen] == ["a"] * 4 + ["b"] + ["c"] * 5


# -- randomness -------------------------------------------------------------------------------------------------------


class Drawing(Plain):
    """Draws from the step's key and from the global generators in every batch."""

    def training_step(self, batch, batch_idx):
        self.keys.append((self.draw_key("availability"), self.draw_key("other")))
        self.drawn.append((torch.rand(()).item(), np.random.rand(), random.random()))  # noqa: NPY002
        return super().training_step(batch, batch_idx)

    def on_train_start(self):
        self.keys, self.drawn = [], []


def draws(folder, disturb=lambda running, model: None, monkeypatch=None, **arguments):
    model = Drawing()
    trainer(folder, callbacks=[Calls(on_train_batch_end=disturb)], **arguments).fit(model, toy_data(folder))
    return model.keys, model.drawn


def test_each_batch_has_draws_of_its_own_and_a_rerun_has_the_same(tmp_path):
    keys, drawn = draws(tmp_path)
    assert len(set(keys)) == len(set(drawn)) == 2 * BATCHES
    assert all(one != other for one, other in keys)
    torch.rand(7)
    assert draws(tmp_path) == (keys, drawn)


def test_draws_follow_the_runs_seed(tmp_path, monkeypatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", "1")
    first = draws(tmp_path)
    monkeypatch.setenv("PL_GLOBAL_SEED", "2")
    second = draws(tmp_path)
    assert set(first[0]).isdisjoint(second[0])
    assert set(first[1]).isdisjoint(second[1])


def test_draws_do_not_depend_on_what_else_draws(tmp_path):
    assert draws(tmp_path, lambda running, model: (torch.rand(3), random.random())) == draws(tmp_path)
    assert draws(tmp_path, accumulate_grad_batches=2, limit_val_batches=0) == draws(tmp_path)


# -- looks at the data ------------------------------------------------------------------------------------------------


class Looking(Plain):
    """Looks at the training set in the middle of an epoch and keeps what it found."""

    look = {"split": "train", "augment": False}  # noqa: RUF012

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.frozen = nn.Dropout(0.5)

    def on_train_batch_start(self, batch, batch_idx):
        super().on_train_batch_start(batch, batch_idx)
        if self.batches_begun == 7:
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


def looked(folder, data=None, split="train", augment=False, **arguments):
    model = Looking()
    model.look = {"split": split, "augment": augment}
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


def test_a_replaced_sample_keeps_the_place_of_the_bad_file(tmp_path):
    data = toy_data(tmp_path, on_bad_file="skip")
    data.prepare_data()
    with np.load(tmp_path / "data" / "train.npz") as arrays:
        changed = {name: arrays[name].copy() for name in arrays.files}
    changed["left"][4, 0] = np.nan
    np.savez(tmp_path / "data" / "train.npz", **changed)
    with pytest.warns(UserWarning, match="sample 4 is broken. Another sample takes its place"):
        found = looked(tmp_path, data).found
    index = found["index"].tolist()
    assert [index[row] for row in range(23) if row != 4] == [row for row in range(23) if row != 4]
    assert index[4] != 4
    assert torch.equal(found["left"], torch.tensor(changed["left"]).float()[found["index"]])


# -- passes -----------------------------------------------------------------------------------------------------------


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
}


@pytest.mark.parametrize("arguments", RESUMES.values(), ids=RESUMES)
def test_a_run_cut_anywhere_and_resumed_ends_as_the_uncut_one_and_runs_each_pass_once(tmp_path, arguments):
    arguments = {"epochs": 3} | arguments
    whole = Passing()
    running = trainer(tmp_path, **arguments)
    running.fit(whole, toy_data(tmp_path))
    expected = final_state(running, whole)
    for batch in range(2, whole.batches_begun + 1):
        folder = tmp_path / str(batch)
        cut = Passing()
        with pytest.raises(Cut):
            trainer(folder, callbacks=[cut_after(batch), Checkpoints(every_n_steps=1)], **arguments).fit(
                cut, toy_data(tmp_path)
            )
        resumed = Passing()
        running = trainer(folder, **arguments)
        last = folder / "checkpoints" / "last.ckpt"
        saved = torch.load(last, weights_only=True)["zoo"]["passes"]
        running.fit(resumed, toy_data(tmp_path), ckpt_path=last, weights_only=True)
        assert differences(expected, final_state(running, resumed)) == [], batch
        for name, done in saved.items():
            period = next(p for p in (whole._passes[name].every_steps, whole._passes[name].every_epochs) if p)
            before = whole.when(name)[: done // period]
            assert before + resumed.when(name) == whole.when(name), batch


# -- several optimizers -----------------------------------------------------------------------------------------------


class Manual(Plain):
    """Manual optimisation: one optimizer per view."""

    def __init__(self, only=None, accumulate=1, clip=None, lr=0.1):
        super().__init__(lr=lr)
        self.automatic_optimization = False
        self.only, self.accumulate, self.clip, self.boundaries = only, accumulate, clip, []

    def training_step(self, batch, batch_idx):
        before = self.steps_done
        self.manual_step(
            self.total(self.terms(batch), batch),
            only=self.only,
            accumulate=self.accumulate,
            gradient_clip_val=self.clip,
        )
        self.boundaries.append((self.at_step_boundary(), self.steps_done - before))

    def configure_optimizers(self):
        return [torch.optim.SGD(part.parameters(), lr=self.lr, momentum=0.9) for part in (self.left, self.right)]


def trained(model, folder, batch_size=5, samples=23, **arguments):
    running = trainer(folder, **arguments)
    running.fit(model, toy_data(folder, batch_size=batch_size, samples=samples))
    return model


def moved(model: Plain) -> dict[str, bool]:
    return {name: bool((value != 0.1).any()) for name, value in model.named_parameters()}


def test_two_optimizers_step_as_one_of_all_weights_would(tmp_path):
    automatic, manual = trained(Plain(), tmp_path), trained(Manual(), tmp_path)
    for name, value in automatic.named_parameters():
        torch.testing.assert_close(manual.get_parameter(name), value, atol=1e-7, rtol=1e-6)
    assert manual.steps_done == automatic.steps_done == 2 * BATCHES


def test_only_the_named_optimizers_step_and_the_others_gradients_are_dropped(tmp_path):
    model = trained(Manual(only=[1]), tmp_path)
    assert moved(model) == {"left.weight": False, "left.bias": False, "right.weight": True, "right.bias": True}
    assert all(p.grad is None for p in model.parameters())
    assert model.steps_done == 2 * BATCHES


@pytest.mark.parametrize("kind", [Plain, Manual])
def test_accumulated_small_batches_step_as_one_big_batch(tmp_path, kind):
    if kind is Manual:
        small = trained(Manual(accumulate=3), tmp_path, batch_size=4, samples=24)
    else:
        small = trained(Plain(), tmp_path, batch_size=4, samples=24, accumulate_grad_batches=3)
    big = trained(kind(), tmp_path, batch_size=12, samples=24)
    assert small.steps_done == big.steps_done == 4
    for name, value in big.named_parameters():
        torch.testing.assert_close(small.get_parameter(name), value, atol=1e-6, rtol=0)


def test_a_window_ends_with_the_epoch(tmp_path):
    model = trained(Manual(accumulate=3), tmp_path)
    assert model.boundaries == [(False, 0), (False, 0), (True, 1), (False, 0), (True, 1)] * 2
    assert all(at == bool(steps) for at, steps in model.boundaries)


def largest_steps(folder, clip, **arguments):
    """The largest norm by which one optimizer's weights moved in a step (learning rate 1, no momentum at step 1)."""
    before = {name: value.detach().clone() for name, value in Manual().named_parameters()}
    model = Manual(clip=clip, lr=1.0)
    running = trainer(folder, epochs=1, limit_train_batches=1, limit_val_batches=0, **arguments)
    running.fit(model, toy_data(folder))
    parts = [("left.weight", "left.bias"), ("right.weight", "right.bias")]
    return [sum((model.get_parameter(n) - before[n]).square().sum() for n in names).sqrt().item() for names in parts]


def test_clipping_bounds_the_gradient_norm_of_each_optimizer(tmp_path):
    free = largest_steps(tmp_path, None)
    clip = min(free) / 2
    assert largest_steps(tmp_path, clip) == pytest.approx([clip, clip], rel=1e-4)
    assert largest_steps(tmp_path, 2 * max(free)) == pytest.approx(free)


@pytest.mark.filterwarnings("ignore")
def test_clipping_sees_unscaled_gradients_in_float16(tmp_path):
    clip = min(largest_steps(tmp_path, None)) / 2
    half = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0**10))
    assert largest_steps(tmp_path, clip, plugins=[half]) == pytest.approx([clip, clip], rel=1e-2)


def test_automatic_optimisation_is_at_a_boundary_where_it_steps(tmp_path):
    found = []

    def note(running, model):
        found.append((model.at_step_boundary(), model.steps_done))

    running = trainer(tmp_path, epochs=2, accumulate_grad_batches=3, callbacks=[Calls(on_train_batch_end=note)])
    running.fit(Plain(), toy_data(tmp_path))
    assert found == [
        (False, 0), (False, 0), (True, 1), (False, 1), (True, 2), (False, 2), (False, 2), (True, 3), (False, 3), (True, 4)
    ]  # fmt: skip


def test_optimizers_from_factories_take_what_requires_a_gradient():
    model = Plain()
    model.left.requires_grad_(False)
    made = model.optimizers_from(lambda parameters: torch.optim.SGD(parameters, lr=0.3))
    assert [p for group in made.param_groups for p in group["params"]] == list(model.right.parameters())
    made = model.optimizers_from(
        lambda parameters: torch.optim.SGD(parameters, lr=0.3),
        lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 2),
        parameters=[{"params": list(model.left.parameters()), "lr": 0.7}],
        interval="epoch",
    )
    assert made["optimizer"].param_groups[0]["lr"] == 0.7
    assert made["lr_scheduler"]["interval"] == "epoch"
    assert made["lr_scheduler"]["scheduler"].optimizer is made["optimizer"]


# -- losses with memory -----------------------------------------------------------------------------------------------


def test_a_stateful_loss_knows_the_data_and_its_memory_is_saved_resumed_and_not_needed_to_evaluate(tmp_path):
    model = Toy(drop_rate=0.0)
    trainer(tmp_path, callbacks=[Checkpoints(monitor="val/accuracy")]).fit(model, toy_data(tmp_path))
    memory = model.losses.task.memory
    assert memory.values.shape == (23, 3)
    assert memory.seen.all()
    last = tmp_path / "checkpoints" / "last.ckpt"
    saved = torch.load(last, weights_only=True)["state_dict"]
    assert torch.equal(saved["losses.task.memory.values"], memory.values)

    resumed = Toy(drop_rate=0.0)
    trainer(tmp_path, epochs=2).fit(resumed, toy_data(tmp_path), ckpt_path=last, weights_only=True)
    assert torch.equal(resumed.losses.task.memory.values, memory.values)

    fresh = Toy(drop_rate=0.0)
    (found,) = trainer(tmp_path).validate(fresh, toy_data(tmp_path), ckpt_path=last, weights_only=True, verbose=False)
    assert differences({k: v for k, v in saved.items() if "losses." not in k}, dict(fresh.state_dict())) == []
    loaded = Toy.load_from_checkpoint(last, weights_only=True)
    assert torch.equal(loaded.head.weight, model.head.weight)
    assert 0 <= found["val/accuracy"] <= 1


def test_a_recipe_replaces_a_slot_of_a_method():
    class Own(Plain):
        slots = {**Plain.slots, "align": Slot("alignment", "ring_l1", weight=3.0)}  # noqa: RUF012

    assert Own().losses.weights["align"].at(0, 0) == 3.0
    assert Own(losses={"align": {"weight": 2}}).losses.weights["align"].at(0, 0) == 2.0


def test_outside_of_training_nothing_was_done_yet():
    model = Plain()
    assert (model.batches_begun, model.steps_done, model.stage.name) == (0, 0, "train")
    seed_globals(0)
    assert model.draw_key("x") == (model.draw_key("x")[0], "x", 0)
