"""What every method that segments volumes promises."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch

import zoo
from tests.support.brats import WINDOW, batch
from tests.support.synchronisations import Synchronisations
from zoo.core.errors import RecipeError, UnknownNameError
from zoo.metrics.subsets import all_subsets, subset_name
from zoo.models import catalogue
from zoo.tasks.volume_segmentation import poly

NAMES = [name for name, entry in catalogue.entries().items() if entry.facts["task"] == "volume_segmentation"]


def made(name: str, **arguments):
    torch.manual_seed(0)
    return zoo.create_model(name, width=2, window=WINDOW, **arguments)


def loss_of(model, given: dict) -> torch.Tensor:
    """What a step differentiates, also where it does so by hand."""
    by_hand = []
    model.manual_step = lambda loss, **_: by_hand.append(loss)
    loss = model.training_step(given, 0)
    return by_hand[0] if by_hand else loss


def absent(given: dict, *pairs: tuple[str, int], fill: float = 0.0) -> dict:
    given = copy.deepcopy(given)
    for name, row in pairs:
        given["present"][name][row] = False
        given["modalities"][name][row] = fill
    return given


@pytest.mark.parametrize("name", NAMES)
def test_what_stands_in_an_absent_modality_does_not_matter(name):
    model = made(name).double()
    for use in (model, lambda given: loss_of(model, given)):
        found = [use(absent(doubled(batch()), ("t1", 0), ("t2", 1), fill=fill)) for fill in (0.0, float("nan"))]
        assert found[0].isfinite().all()
        assert torch.equal(*found)


def doubled(given: dict) -> dict:
    return given | {"modalities": {name: image.double() for name, image in given["modalities"].items()}}


@pytest.mark.parametrize("name", NAMES)
def test_a_present_modality_matters(name):
    model = made(name)
    assert not torch.allclose(model(batch()), model(absent(batch(), ("flair", 0), ("flair", 1))))


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_learns_and_no_step_waits_for_the_device(name):
    model, given = made(name), batch()
    model.stages = type(model.stages)([{"name": "all", "available": "all"}], model.stage_options)
    with Synchronisations() as synchronisations:
        loss = loss_of(model, given)
        loss.backward()
    assert synchronisations.seen == []
    without = [key for key, p in model.network.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not without


@pytest.mark.parametrize("name", NAMES)
def test_a_bf16_step_agrees_with_float32(name):
    model, given = made(name), batch()
    exact = loss_of(model, given)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = loss_of(model, given)
    rounded.backward()
    assert rounded.item() == pytest.approx(exact.item(), rel=0.02)


@pytest.mark.parametrize("name", NAMES)
def test_the_sweep_over_all_sets_equals_a_pass_for_each(name):
    model, given = made(name).double().eval(), doubled(batch(samples=1))
    with torch.no_grad():
        found = {set_: (probabilities, complete) for set_, probabilities, complete in model.over_subsets(given, 0)}
        for subset in all_subsets(model.modalities)[::4]:
            rest = [(modality, 0) for modality in model.modalities if modality not in subset]
            probabilities, complete = found[subset_name(subset)]
            assert complete
            torch.testing.assert_close(probabilities, model(absent(given, *rest)).sigmoid(), atol=1e-5, rtol=0)
    assert len(found) == 15


def test_sets_that_a_sample_has_not_are_told():
    model, given = made("volume_unet").eval(), absent(batch(samples=1), ("t2", 0), fill=float("nan"))
    with torch.no_grad():
        found = {set_: (probabilities, complete) for set_, probabilities, complete in model.over_subsets(given, 0)}
    assert {set_ for set_, (_, complete) in found.items() if not complete} == {set_ for set_ in found if "t2" in set_}
    assert all(probabilities.isfinite().all() for probabilities, _ in found.values())


def test_a_network_of_one_modality_ignores_the_others():
    model = made("volume_unet", only="t1ce")
    others = absent(batch(), ("flair", 0), ("t1", 1), fill=float("nan"))
    assert torch.equal(model(batch()), model(others))
    assert not torch.equal(model(batch()), model(absent(batch(), ("t1ce", 0))))
    with pytest.raises(UnknownNameError, match="t1ce"):
        made("volume_unet", only="t1c")


def test_modality_dropout_draws_and_zero_filling_does_not():
    everything = [[0, 1, 2, 3]] * 2
    assert made("volume_unet").drawn(batch()) == everything
    draws = set()
    dropping = made("volume_unet", modality_dropout=True)
    for step in range(8):
        dropping.draw_key = lambda name, step=step: (0, name, step)
        first, second = dropping.drawn(batch())
        assert first == second
        draws.add(tuple(first))
    assert len(draws) > 4


def test_a_sample_that_has_none_of_the_drawn_modalities_uses_all_it_has():
    model = made("volume_unet", modality_dropout=True)
    model.draw_key = lambda name: (0, name, 0)
    drawn = model.drawn(batch(samples=1))[0]
    given = absent(batch(samples=1), *((model.modalities[m], 0) for m in drawn))
    assert model.drawn(given) == [[m for m in range(4) if m not in drawn]]


def test_data_of_other_modalities_or_regions_are_refused():
    with pytest.raises(RecipeError, match=r"no modality 't1c', which model\.modalities names\. Did you mean t1ce"):
        made("volume_unet", modalities=("flair", "t1c"))(batch())
    with pytest.raises(RecipeError, match=r"masks have 3 regions, model\.regions names 2"):
        made("volume_unet", regions=("WT", "TC"))(batch())


def test_a_mistyped_stage_is_told():
    with pytest.raises(UnknownNameError, match="random"):
        made("volume_unet", stages=[{"name": "train", "available": "randm"}])


def test_the_rate_falls_to_the_end_of_the_stage_and_rises_with_the_next():
    model = made("volume_unet", stages=[{"name": "warmup", "until_step": 80_000}, {"name": "random"}])
    factor = partial(model.lr_factor, total=180_000, per_epoch=285)
    assert factor(0) == 1
    assert factor(79_999) == poly(79_999, 80_000)
    assert 0.01 * factor(80_000) == pytest.approx(5.89e-3, rel=1e-3)
    model.stages = type(model.stages)([{"name": "warmup", "until_epoch": 100}, {"name": "random"}], model.stage_options)
    assert factor(28_499) == poly(28_499, 28_500)
    assert factor(28_500) == poly(28_500, 180_000)
