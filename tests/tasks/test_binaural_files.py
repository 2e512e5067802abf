"""Stereo files and pictures: whole, unclipped, in place; level differences as they are."""

from __future__ import annotations

import csv
import math

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from zoo.tasks.binaural_files import Picture, file_name, finish, put_piece

FRAME = torch.rand(3, 8, 16, generator=torch.Generator().manual_seed(0))


@settings(max_examples=50, deadline=None)
@given(st.text(min_size=1))
def test_any_id_gives_a_name_in_its_folder(text):
    name = file_name(text)
    assert name not in ("", ".", "..")
    assert not set(name) & set('/\\:*?"<>|\0 ')
    assert len(name) < 150


def test_plain_ids_stay_and_different_ids_stay_different():
    assert file_name("000012") == "000012"
    assert len({file_name(text) for text in ("a/b", "a_b", "a b", "a?b", "../a_b")}) == 5


def test_pieces_become_one_file_in_their_order(tmp_path):
    stereo = 0.5 * torch.rand(2, 700) - 0.25
    for number, part in reversed([*enumerate(stereo.split(300, dim=1))]):
        put_piece(tmp_path / "pieces", "my clip", number, part, 22_050, FRAME)
    (row,) = finish(tmp_path / "pieces", tmp_path)
    found, rate = soundfile.read(tmp_path / row["file"], dtype="float32")
    assert rate == 22_050
    np.testing.assert_allclose(found.T, stereo.numpy(), atol=1 / 32_000)
    assert (row["id"], row["scaled"]) == ("my clip", 1)
    assert Image.open(tmp_path / row["file"].replace(".wav", ".png")).size == (1100, 500)
    with (tmp_path / "predictions.csv").open() as file:
        assert [line["id"] for line in csv.DictReader(file)] == ["my clip"]
    assert not (tmp_path / "pieces").exists()


def test_what_is_too_loud_is_scaled_both_ears_alike(tmp_path):
    stereo = torch.stack([torch.linspace(-2, 2, 500), torch.linspace(-1, 1, 500)])
    for number, part in enumerate(stereo.split(250, dim=1)):
        put_piece(tmp_path / "pieces", "loud", number, part, 16_000, FRAME)
    (row,) = finish(tmp_path / "pieces", tmp_path)
    found, _ = soundfile.read(tmp_path / row["file"], dtype="float32")
    assert 0.99 < np.abs(found).max() < 1
    np.testing.assert_allclose(found.T, stereo.numpy() / 2, atol=1e-4)
    assert row["scaled"] == 0.5


@pytest.mark.parametrize("stereo", [torch.zeros(2, 16_000), torch.zeros(2, 1), 0.1 * torch.ones(2, 3)])
def test_silent_and_tiny_clips_have_files_and_pictures(tmp_path, stereo):
    put_piece(tmp_path / "pieces", "odd", 0, stereo, 16_000, FRAME)
    (row,) = finish(tmp_path / "pieces", tmp_path)
    assert soundfile.info(tmp_path / row["file"]).frames == stereo.shape[1]
    assert (tmp_path / "odd.png").is_file()
    assert row["level_difference"] == pytest.approx(0, abs=1e-3)


@settings(max_examples=10, deadline=None)
@given(st.floats(-20, 20), st.sampled_from([8_000, 16_000, 44_100]), st.floats(0.2, 30))
def test_level_differences_are_those_of_the_ears(decibels, rate, seconds):
    noise = torch.randn(int(rate * seconds), generator=torch.Generator().manual_seed(0))
    picture = Picture(rate)
    picture.add(0.01 * torch.stack([noise * 10 ** (decibels / 20), noise]))
    assert picture.level_difference == pytest.approx(decibels, abs=0.01)
    times, levels = picture.levels()
    np.testing.assert_allclose(levels, decibels, atol=0.01)
    assert math.isclose(times[-1] + times[0], seconds, rel_tol=0.1)


def test_level_differences_of_quiet_moments_are_left_out():
    noise = 0.1 * torch.randn(2, 32_000)
    noise[:, :16_000] *= 1e-5
    picture = Picture(16_000)
    picture.add(noise)
    times, levels = picture.levels()
    assert np.isnan(levels[times < 0.9]).all()
    assert np.isfinite(levels[times > 1.1]).all()
