"""`import zoo`: names without torch, models by name, near misses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import zoo
from tests.support.tiny import Tiny
from zoo.core.errors import CheckpointError, RecipeError, UnknownNameError

pytest_plugins = ["tests.support.command_fixtures"]


def test_listing_imports_no_torch() -> None:
    code = (
        "import sys, zoo; zoo.list_models(); zoo.list_losses(); zoo.list_losses('classification');"
        "zoo.list_datamodules(); zoo.__version__; dir(zoo); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_everything_that_is_listed_has_a_name_for_recipes(catalogues: None) -> None:
    assert "tiny" in zoo.list_models()
    assert {"cross_entropy", "ring_l1"} <= set(zoo.list_losses())
    assert "ring_l1" not in zoo.list_losses(kind="classification")
    assert "avmnist" in zoo.list_datamodules()
    with pytest.raises(UnknownNameError, match="Did you mean alignment"):
        zoo.list_losses("aligment")


def test_classes_are_reached_by_their_names(catalogues: None) -> None:
    assert zoo.Tiny is Tiny
    assert "Tiny" in dir(zoo)
    with pytest.raises(AttributeError, match="Tyny"):
        zoo.Tyny  # noqa: B018


def test_a_model_is_made_by_name(catalogues: None) -> None:
    model = zoo.create_model("tiny", num_classes=4, width=2, losses={"task": {"weight": 0.5}})
    assert isinstance(model, Tiny)
    assert model.head.weight.shape == (4, 2)
    assert model.losses.weights["task"].at(0, 0) == 0.5


def test_a_model_starts_from_a_checkpoint_or_not_at_all(catalogues: None, tmp_path: Path) -> None:
    path = tmp_path / "weights.ckpt"
    state = Tiny(num_classes=4).state_dict()
    torch.save({"state_dict": state, "zoo": {}, "pytorch-lightning_version": "2.6"}, path)
    model = zoo.create_model("tiny", checkpoint=path, num_classes=4)
    assert torch.equal(model.head.weight, state["head.weight"])
    with pytest.raises(CheckpointError, match="does not fit"):
        zoo.create_model("tiny", checkpoint=path, num_classes=5)


@pytest.mark.parametrize(
    ("name", "arguments", "wanted"),
    [
        ("tny", {}, "'tny' is not a known method. Did you mean tiny?"),
        ("tiny", {"num_classes": 2, "widht": 3}, "widht is not an argument of Tiny. Did you mean width?"),
        ("tiny", {"width": 3}, "Tiny needs num_classes."),
    ],
)
def test_a_mistyped_name_or_argument_is_told_with_near_misses(
    catalogues: None, name: str, arguments: dict[str, int], wanted: str
) -> None:
    with pytest.raises(RecipeError) as raised:
        zoo.create_model(name, **arguments)
    assert str(raised.value) == wanted
