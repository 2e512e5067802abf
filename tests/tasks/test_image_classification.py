"""What methods that classify images share: accuracy is exact, best and last epoch are told, files are written."""

from __future__ import annotations

import csv
from pathlib import Path

import lightning.pytorch as L
import pytest
import torch
from torch import Tensor, nn

from tests.support.images import CLASSES, pictures
from zoo.core.errors import UnknownNameError
from zoo.networks.normalise import STATISTICS, Normalise
from zoo.tasks.image_classification import ImageClassificationModule


class Linear(ImageClassificationModule):
    """Reads the mean colour."""

    def __init__(self, lr: float = 1.0) -> None:
        super().__init__(CLASSES, "none")
        self.save_hyperparameters()
        self.lr = lr
        self.head = nn.Linear(3, CLASSES)

    def logits(self, image: Tensor) -> Tensor:
        return self.head(image.mean((2, 3)))

    def training_step(self, batch: dict, batch_idx: int) -> Tensor:
        return self.total({"task": self.losses.task(self(batch), batch["label"])}, batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.lr)


def trainer(folder: Path, epochs: int = 3, **kwargs) -> L.Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    return L.Trainer(accelerator="cpu", max_epochs=epochs, default_root_dir=folder, **quiet, **kwargs)


def table(path: Path) -> dict[str, float]:
    with path.open() as file:
        return {row["what"]: float(row["accuracy"]) for row in csv.DictReader(file)}


def test_best_and_last_epoch_are_told_also_after_a_checkpoint(tmp_path):
    data, model = pictures(tmp_path / "data"), Linear()
    seen = []

    class Watch(L.Callback):
        def on_validation_epoch_end(self, trainer, module):
            if not trainer.sanity_checking:
                seen.append(float(module.val_accuracy.compute()))
                module.head.weight.data.neg_()  # so that epochs differ

    run = trainer(tmp_path, epochs=4, callbacks=[Watch()])
    run.fit(model, data)
    assert len(set(seen)) > 1
    assert run.callback_metrics["val/accuracy"] == pytest.approx(seen[-1])
    assert run.callback_metrics["val/accuracy_best"] == pytest.approx(max(seen))
    run.save_checkpoint(tmp_path / "last.ckpt")
    trainer(tmp_path).test(Linear(), data, ckpt_path=tmp_path / "last.ckpt", verbose=False, weights_only=True)
    found = table(tmp_path / "accuracy.csv")
    assert found["validation, best epoch"] == pytest.approx(max(seen), abs=1e-4)
    assert found["validation, last epoch"] == pytest.approx(seen[-1], abs=1e-4)


def test_accuracy_counts_each_image_once_and_images_of_no_class_never(tmp_path):
    data, model = pictures(tmp_path / "data", batch_size=4), Linear()
    data.prepare_data()
    batches = list(data.test_dataloader())
    batches[0]["label"][0] = -1
    for batch in batches:
        model.test_accuracy.update(model(batch), batch["label"])
    logits = torch.cat([model(batch) for batch in batches])
    label = torch.cat([batch["label"] for batch in batches])
    right = (logits.argmax(1) == label)[label >= 0]
    assert float(model.test_accuracy.compute()) == pytest.approx(float(right.float().mean()))


def test_sets_of_images_of_no_known_class_are_left_out_of_accuracy(tmp_path, monkeypatch):
    data, model = pictures(tmp_path / "data"), Linear()
    (alone,) = trainer(tmp_path).test(model, data, verbose=False)
    monkeypatch.setattr(data, "test_dataloader", lambda: [data.loader("test"), data.loader("train")])
    (found, *_) = trainer(tmp_path).test(model, data, verbose=False)
    assert found == alone


def test_predictions_are_written_for_every_image_once(tmp_path):
    data, model = pictures(tmp_path / "data", batch_size=4), Linear()
    trainer(tmp_path).predict(model, data)
    with (tmp_path / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [f"picture{number}" for number in range(7)]
    assert sum(float(rows[0][f"class_{c}"]) for c in range(CLASSES)) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", STATISTICS)
def test_normalised_images_have_the_published_statistics(name):
    mean, std = STATISTICS[name]
    image = torch.tensor([mean, [m + s for m, s in zip(mean, std, strict=True)]])[:, :, None, None]
    found = Normalise(name)(image)[:, :, 0, 0]
    torch.testing.assert_close(found, torch.tensor([[0.0] * 3, [1.0] * 3]), atol=1e-6, rtol=0)


def test_normalisation_is_no_part_of_checkpoints_and_a_typo_is_told():
    assert Normalise("imagenet").state_dict() == {}
    with pytest.raises(UnknownNameError, match="Did you mean cifar10"):
        Normalise("cifar01")
