"""CIPL: co-attention, teacher, stages, and that a run learns, resumes and agrees over ranks."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.support import findings
from tests.support.probes import state
from tests.support.runs import Run, train, uncut_and_resumed
from zoo.core.errors import RecipeError
from zoo.methods.cipl.network import co_attention
from zoo.tasks.explanation import write_explanation


def naive_co_attention(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    a, b = first.flatten(2), second.flatten(2)
    affinity = -(a[..., :, None] - b[..., None, :]).square().sum(1)
    of_second = torch.einsum("bdj,bij->bdi", b, affinity.softmax(2))
    of_first = torch.einsum("bdi,bij->bdj", a, affinity.softmax(1))
    return of_second.reshape(first.shape), of_first.reshape(second.shape)


@given(st.integers(0, 100), st.integers(1, 4), st.integers(1, 4))
@settings(max_examples=10, deadline=None)
def test_co_attention_equals_its_definition_also_for_images_of_two_sizes(seed, rows, columns):
    generator = torch.Generator().manual_seed(seed)
    first, second = (torch.rand(2, 5, h, w, generator=generator) for h, w in ((3, 2), (rows, columns)))
    for found, expected in zip(co_attention(first, second), naive_co_attention(first, second), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_co_attention_swaps_with_its_images():
    first, second = torch.rand(2, 5, 3, 3), torch.rand(2, 5, 3, 3)
    one, two = co_attention(first, second), co_attention(second, first)
    torch.testing.assert_close(one.first, two.second)
    torch.testing.assert_close(one.second, two.first)


def batch(size: int = 4) -> dict:
    source = findings.Squares(2 * size, seed=5)
    rng = np.random.default_rng(0)

    def part(rows: range) -> dict:
        views = [source.view(row, rng) for row in rows]
        stacked = {key: torch.stack([view[key] for view in views]) for key in views[0]}
        return {**stacked, "index": torch.tensor([*rows]), "id": [""] * size}

    return {**part(range(size)), "partner": part(range(size, 2 * size))}


def test_gradient_reaches_the_student_alone():
    model, _ = findings.cipl(stages=None)
    terms = model.pair_terms(batch())
    assert terms.keys() == model.slots.keys()
    sum(terms.values()).backward()
    without = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert without == {name for name, _ in model.named_parameters() if name.startswith("network.teacher.")}
    assert all(parameter.grad.isfinite().all() for parameter in model.network.student.parameters())


def test_the_teacher_begins_as_the_student_and_follows():
    model, _ = findings.cipl(momentum=0.75)
    net = model.network
    with torch.no_grad():
        net.student.prototypes.fill_(1.0)
        net.update_teacher(0.75)
        assert torch.equal(net.teacher.prototypes, net.student.prototypes)
        net.student.prototypes.fill_(5.0)
        net.update_teacher(0.75)
    assert torch.equal(net.teacher.prototypes, torch.full_like(net.teacher.prototypes, 2.0))


def test_released_losses_leave_the_last_finding_out():
    model, _ = findings.cipl(stages=[{"name": "released", "drop_last_finding": True}])
    given_batch = batch()
    before = model.pair_terms(given_batch)
    for part in (given_batch, given_batch["partner"]):
        part["label"] = part["label"].clone()
        part["label"][:, -2] = 1 - part["label"][:, -2]
    after = model.pair_terms(given_batch)
    assert torch.equal(before["task"], after["task"])
    assert torch.equal(before["co_attention"], after["co_attention"])
    assert not torch.equal(before["cluster"], after["cluster"])


def test_images_without_a_partner_are_refused_in_stages_of_pairs():
    model, _ = findings.cipl(stages=None)
    alone = batch()
    del alone["partner"]
    with pytest.raises(RecipeError, match="partner and a second view"):
        model.pair_terms(alone)


def test_bfloat16_step_is_near_that_of_float32():
    found = []
    for half in (False, True):
        torch.manual_seed(0)
        model, _ = findings.cipl(stages=None)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            terms = model.pair_terms(batch())
        weights = {slot: weight.at(0, 0) for slot, weight in model.losses.weights.items()}
        found.append(sum(weights[slot] * term.float() for slot, term in terms.items()))
    torch.testing.assert_close(found[1], found[0], rtol=0.02, atol=0.0)


def test_what_fits_everywhere_speaks_for_nothing():
    model, _ = findings.cipl()
    distances = torch.full((9, 4, 2), 1.0)
    distances[3, 0, 1] = 0.0
    assert (model.shares(-distances) > 0).nonzero().tolist() == [[0, 1]]


def test_an_image_without_a_patch_for_any_prototype_is_explained_all_the_same(tmp_path):
    model, _ = findings.cipl()
    image, activation = torch.zeros(3, 32, 32), torch.full((16, 4, 2), -16.0)
    told = model.explain(image, activation, model.class_scores(activation[None])[0], "black", ["a", "b", "c", "normal"])
    write_explanation(told, image, tmp_path)
    facts = json.loads((tmp_path / "black.json").read_text())
    assert [winner["share"] for winner in facts["prototypes"]] == [0.0, 0.0]
    assert [winner["source_image"] for winner in facts["prototypes"]] == [None, None]  # never projected
    assert (tmp_path / "black.png").stat().st_size > 0


def run_once(folder, build=findings.cipl, epochs: int = 3, **options: object) -> tuple[L.Trainer, object, object]:
    L.seed_everything(0, verbose=False)
    model, data = build(folder, **options)
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        default_root_dir=folder,
        use_distributed_sampler=False,
        **{"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0},
    )
    trainer.fit(model, data)
    return trainer, model, data


def test_a_run_goes_through_its_stages_and_explains(tmp_path):
    trainer, model, data = run_once(tmp_path)
    net = model.network
    assert net.teacher_began
    assert (net.student.last_layer.weight[~net.student.own.bool()] == 0).all()
    assert not torch.equal(net.student.last_layer.weight, net.student.own)  # the last stage trained it
    assert (model.sources.index >= 0).all()
    assert len(model.sources.index.unique()) == model.sources.index.numel()  # an image serves one prototype

    trainer.test(model, data, verbose=False)
    with (tmp_path / "localisation.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["finding"] for row in rows] == [*data.classes[:-1], "mean"]
    assert all(0 <= float(row["iou>0.1"]) <= 1 for row in rows)
    assert (tmp_path / "findings.csv").is_file()
    trainer.predict(model, data)
    header, *table = (tmp_path / "predictions.csv").read_text().splitlines()
    assert header == "id,class_upper left,class_upper right,class_lower left"
    assert len(table) == len(list((tmp_path / "explanations").glob("*.png"))) == 12
    facts = json.loads((tmp_path / "explanations" / "image0.json").read_text())
    assert facts["explained"] in data.classes[:-1]
    assert facts["prototypes"][0]["source_image"].startswith("image")


def test_last_layer_stages_move_nothing_else(tmp_path):
    stages = [{"name": "last layer", "last_layer": True}]
    _, trained, _ = run_once(tmp_path, epochs=1, stages=stages)
    L.seed_everything(0, verbose=False)
    before = dict(findings.cipl(stages=stages)[0].named_parameters())
    moved = {name for name, value in trained.named_parameters() if not torch.equal(value, before[name])}
    assert {name for name in moved if "teacher" not in name} == {"network.student.last_layer.weight"}


def test_a_linear_head_finds_squares_and_where_they_are(tmp_path):
    trainer, model, data = run_once(tmp_path, findings.linear_head, epochs=10)
    (scores,) = trainer.test(model, data, verbose=False)
    assert scores["test/auc"] > 0.9
    assert scores["test/localisation_iou>0.1"] > 0.5


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return Run(findings.cipl, tmp_path_factory.mktemp("cipl"), epochs=3, monitor="val/auc")


@pytest.mark.slow
@pytest.mark.parametrize("kill", ["mid-epoch", "epoch end", "inside a pass"])
def test_cut_and_resumed_equals_uncut(run, kill):
    assert uncut_and_resumed(run, kill, 0) == []


@pytest.mark.slow
def test_two_ranks_equal_one(run):
    one = replace(run, build=findings.of_ranks, folder=run.folder / "one", probe=state)
    two = replace(run, build=findings.half_batch, folder=run.folder / "two", probe=state, ranks=2)
    (alone,), (first, second) = train(one), train(two)
    for key, value in alone["state"].items():
        assert np.array_equal(first["state"][key], second["state"][key]), key
        np.testing.assert_allclose(first["state"][key], value, atol=2e-4, rtol=1e-3, err_msg=key)
    assert first["metrics"]["val/auc"] == second["metrics"]["val/auc"] == alone["metrics"]["val/auc"]
