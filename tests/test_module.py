"""What ZooModule gives every method: logged terms, keyed randomness, passes over the data, optimizers."""

import random

import numpy as np
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision

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
        super().on_train_start()
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
        super().on_train_start()
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
    steps = [0, 0, 1, 1, 2, 2, 2, 3, 3, 4]
    assert found == [(number % BATCHES in (2, 4), step) for number, step in enumerate(steps)]


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


# -- how long a run lasts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"accumulate_grad_batches": 2},
        {"limit_train_batches": 0.5},
        {"limit_train_batches": 3, "accumulate_grad_batches": 2},
        {"max_steps": 7},
    ],
)
def test_the_planned_steps_are_those_that_are_done(tmp_path, settings):
    model, running = Plain(), trainer(tmp_path, epochs=2, **settings)
    running.fit(model, toy_data(tmp_path))
    assert model.steps_planned == running.global_step == running.estimated_stepping_batches


def test_a_run_without_an_end_has_no_planned_steps(tmp_path):
    model, running = Plain(), trainer(tmp_path, epochs=1)
    running.fit(model, toy_data(tmp_path))
    running.fit_loop.max_epochs = -1
    assert model.steps_planned is None
