"""Schedules advance under manual optimisation; the progress bar does not wait for the device at every step."""

from __future__ import annotations

from functools import partial

import lightning.pytorch as L
import pytest
import torch

from tests.toy.data import ToyData
from tests.toy.method import Toy
from zoo.callbacks import LossBar


class Scheduled(Toy):
    interval = "step"

    def configure_optimizers(self):
        made = self.optimizers_from(
            partial(torch.optim.SGD, lr=1.0),
            partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.5),
            interval=self.interval,
        )
        return made


class ScheduledByEpoch(Scheduled):
    interval = "epoch"


def trainer(**kwargs) -> L.Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False}
    return L.Trainer(accelerator="cpu", max_epochs=2, use_distributed_sampler=False, **quiet, **kwargs)


@pytest.mark.parametrize(("cls", "advances"), [(Scheduled, 2 * 4), (ScheduledByEpoch, 2)])
def test_a_schedule_advances_with_every_optimizer_step_or_epoch(cls, advances, tmp_path):
    running = trainer(enable_progress_bar=False)
    model = cls(accumulate=2)
    running.fit(model, ToyData(root=tmp_path / "data", demo=38, batch_size=5))  # 8 batches an epoch
    assert running.optimizers[0].param_groups[0]["lr"] == 0.5**advances


def test_the_bar_fetches_the_loss_every_tenth_batch(tmp_path, monkeypatch):
    fetched = []
    bar = LossBar()
    monkeypatch.setattr("zoo.callbacks.float", lambda value: fetched.append(value) or float(value), raising=False)
    running = trainer(callbacks=[bar], num_sanity_val_steps=0, limit_val_batches=0)
    running.fit(Toy(), ToyData(root=tmp_path / "data", demo=38, batch_size=2))  # 19 batches an epoch
    assert 0 < len(fetched) <= 2 * 2 * 2  # batches 0 and 10 of two epochs, drawn at most twice each
    assert bar.get_metrics(running, running.lightning_module)["train/loss"]
