"""A loss that is NaN or infinite ends training: at once, on all ranks, by name, before anything of it is saved."""

from pathlib import Path

import lightning.pytorch as L
import pytest
import torch

from tests.support.ranks import ddp, on_ranks
from tests.support.synchronisations import Synchronisations
from tests.toy.plain import Calls, Plain, toy_data, trainer
from zoo.callbacks import Checkpoints
from zoo.core.distributed import gather_objects, rank
from zoo.core.errors import NonFiniteLossError
from zoo.finite import FiniteWatch

NAN, INF = float("nan"), float("inf")


class Noting(Plain):
    """Keeps the ids of each batch."""

    def training_step(self, batch, batch_idx):
        self.ids = {**getattr(self, "ids", {}), self.batches_begun: batch["id"]}
        return super().training_step(batch, batch_idx)


class ManualNoting(Noting):
    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        self.manual_step(super().training_step(batch, batch_idx))


def stopped(folder: Path, model: Plain, **arguments) -> str:
    """The message that ended a training."""
    arguments.setdefault("callbacks", [Checkpoints(every_n_steps=1)])
    running = trainer(folder, **arguments)
    with pytest.raises(NonFiniteLossError) as caught:
        running.fit(model, toy_data(folder))
    return str(caught.value)


def saved(folder: Path) -> dict:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


# -- one process ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Noting, ManualNoting])
@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_training_stops_and_names_slot_step_and_samples(tmp_path, kind, value):
    model = kind(bad={7: value})
    said = stopped(tmp_path, model)
    assert said.startswith(f"The loss align became NaN or infinite at step 7, samples {', '.join(model.ids[7])}.")
    assert max(model.ids) <= 7


def test_steps_are_optimizer_steps(tmp_path):
    assert "at step 3," in stopped(tmp_path, Noting(bad={6: NAN}), accumulate_grad_batches=2)


def test_all_bad_slots_are_named(tmp_path):
    class BothBad(Noting):
        def terms(self, batch):
            return {slot: term * self.bad.get(self.batches_begun, 1.0) for slot, term in super().terms(batch).items()}

    assert stopped(tmp_path, BothBad(bad={3: NAN})).startswith("The loss task and align became NaN")


def test_a_term_that_the_weights_leave_out_is_watched_too(tmp_path):
    assert "The loss align" in stopped(tmp_path, Noting(bad={3: NAN}, losses={"align": {"weight": 0.0}}))


@pytest.mark.parametrize("kind", [Noting, ManualNoting])
@pytest.mark.parametrize("batch", [0, 3, 4, 7, 9])
def test_nothing_of_the_bad_step_is_saved(tmp_path, kind, batch):
    model = kind(bad={batch: NAN})
    stopped(tmp_path, model)
    if batch == 0:
        assert not (tmp_path / "checkpoints").exists()
        return
    last = saved(tmp_path)
    assert last["global_step"] == batch
    assert all(value.isfinite().all() for value in last["state_dict"].values() if value.is_floating_point())
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("arguments", [{}, {"limit_val_batches": 0}, {"max_epochs": -1, "max_steps": 10}], ids=str)
@pytest.mark.parametrize("kind", [Noting, ManualNoting])
def test_the_very_last_batch_of_a_training_is_watched_too(tmp_path, arguments, kind):
    assert "at step 9," in stopped(tmp_path, kind(bad={9: NAN}), callbacks=[], **arguments)


@pytest.mark.parametrize("arguments", [{"val_check_interval": 3}, {}], ids=str)
def test_no_validation_runs_on_weights_that_a_bad_step_spoilt(tmp_path, arguments):
    validated = Calls(on_validation_batch_start=lambda running, model: pytest.fail("validated"))
    batch = 2 if arguments else 4
    assert f"at step {batch}," in stopped(tmp_path, Noting(bad={batch: NAN}), callbacks=[validated], **arguments)


def test_no_callback_can_save_while_the_error_travels_up(tmp_path):
    class Desperate(L.Callback):
        def on_exception(self, trainer, pl_module, exception):
            with pytest.raises(NonFiniteLossError):
                trainer.save_checkpoint(tmp_path / "desperate.ckpt")

    stopped(tmp_path, Noting(bad={3: NAN}), callbacks=[Desperate()])
    assert not (tmp_path / "desperate.ckpt").exists()


def test_of_several_totals_in_one_step_each_is_watched(tmp_path):
    class Twice(ManualNoting):
        """As adversarial training does."""

        def training_step(self, batch, batch_idx):
            for factor in (self.bad.get(self.batches_begun, 1.0), 1.0):
                terms = {slot: term * factor for slot, term in Plain.terms(self, batch).items() if slot == "task"}
                self.manual_step(self.total(terms, batch))

    assert "The loss task became NaN or infinite at step 6," in stopped(tmp_path, Twice(bad={3: NAN}), callbacks=[])


def test_weights_spoilt_by_the_gradient_of_a_finite_loss_are_not_saved(tmp_path):
    class Overflowing(Noting):
        def on_before_zero_grad(self, optimizer):
            if self.batches_begun == 7:
                self.left.weight.register_hook(lambda gradient: gradient * INF)

    said = stopped(tmp_path, Overflowing())
    assert said.startswith("The weights left.weight became NaN or infinite by step 8, though the loss was finite")
    assert saved(tmp_path)["global_step"] == 7
    assert saved(tmp_path)["state_dict"]["left.weight"].isfinite().all()


def test_the_counter_of_synchronisations_counts():
    x = torch.tensor([1.0, NAN])
    with Synchronisations() as counted:
        x.sum().item()
        bool(x.isnan().any())
        x[x > 0]
        x[x > 0] = 1.0
        x.unique()
        x[torch.tensor([0])] * 2 + x[:1]
    assert counted.seen == ["_local_scalar_dense", "_local_scalar_dense", "index", "index_put_", "_unique2"]


def test_a_step_never_waits_for_its_own_flags_they_are_read_when_the_next_one_begins(tmp_path, monkeypatch):
    happened = []

    class Counting(Plain):
        def total(self, terms, batch):
            with Synchronisations() as counted:
                found = super().total(terms, batch)
            happened.append(("total", self.batches_begun, len(counted.seen)))
            return found

    check = FiniteWatch.check

    def counting_check(watch):
        with Synchronisations() as counted:
            had = len(watch._pending)
            check(watch)
        happened.append(("check", had, len(counted.seen)))

    monkeypatch.setattr(FiniteWatch, "check", counting_check)
    trainer(tmp_path, epochs=1, limit_val_batches=0).fit(Counting(), toy_data(tmp_path))
    expected = [("check", 0, 0)]
    for batch in range(5):
        expected += [("total", batch, 0), ("check", 1, 1)]  # of step t, when t + 1 begins or the epoch ends
    assert happened == expected


# -- two ranks --------------------------------------------------------------------------------------------------------


class BadOnOneRank(Noting):
    """The second rank's loss is bad."""

    def terms(self, batch):
        terms = super().terms(batch)
        if rank() == 1 and self.batches_begun == 2:
            terms["align"] = terms["align"] * NAN
        return terms


def end_on_ranks(folder: str) -> dict:
    model = BadOnOneRank()
    said = stopped(Path(folder), model, **ddp())
    return {"said": said, "ids": gather_objects(model.ids[2])}


def test_all_ranks_stop_with_the_same_error_though_one_is_bad(tmp_path):
    toy_data(tmp_path).prepare_data()
    first, second = on_ranks(2, end_on_ranks, str(tmp_path))
    assert first["said"] == second["said"]
    assert f"The loss align became NaN or infinite at step 2, samples {', '.join(first['ids'][1])}." in first["said"]
    last = saved(tmp_path)
    assert last["global_step"] == 2
    assert all(value.isfinite().all() for value in last["state_dict"].values() if value.is_floating_point())


def watch_on_ranks() -> list:
    watch, found = FiniteWatch(), []
    for step, bad in enumerate([(), (0,), (1,), (0, 2), (0, 1, 2)]):
        terms = {"a": torch.tensor(1.0), "b": torch.tensor([1.0, NAN if rank() in bad else 2.0])}
        watch.watch(terms, step, [f"rank{rank()}"])
        try:
            watch.check()
            found.append(None)
        except NonFiniteLossError as error:
            found.append(str(error))
            watch = FiniteWatch()
    return found


def test_the_samples_of_all_bad_ranks_are_named():
    ranks = on_ranks(3, watch_on_ranks)
    assert ranks[0] == ranks[1] == ranks[2]
    expected = [None, "rank0", "rank1", "rank0, rank2", "rank0, rank1, rank2"]
    for step, (said, samples) in enumerate(zip(ranks[0], expected, strict=True)):
        if samples is None:
            assert said is None
        else:
            assert f"The loss b became NaN or infinite at step {step}, samples {samples}." in said
