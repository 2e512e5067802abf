"""Prediction of clips of one's own: any rate, any length, video or picture; what a test leaves behind."""

from __future__ import annotations

import csv

import lightning.pytorch as L
import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from datamodules.binaural.fairplay import FAIRPlay
from datamodules.binaural.folder import BinauralFolder
from datamodules.video import read_sound_track
from tests.support import binaural
from tests.support.clips import write_video
from zoo.methods.baselines.binaural import MonoMono


def trainer(folder) -> L.Trainer:
    return L.Trainer(
        accelerator="cpu", logger=False, default_root_dir=folder, enable_progress_bar=False, enable_model_summary=False
    )


def with_a_difference(model, shift: float = 0.5):
    """The model, with a difference of the ears that one can measure."""
    with torch.no_grad():
        model.audio.decoder.layers[-1].bias.add_(shift)
    return model


def predicted(model, folder, waveform: np.ndarray, rate: int) -> tuple[np.ndarray, dict[str, str]]:
    """What becomes of a sound [T] or [T, C] and a picture: float [2, T], and its row in the list."""
    clips = folder / "clips"
    clips.mkdir()
    soundfile.write(clips / "my clip.wav", waveform, rate, "FLOAT")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 70, 3), dtype=np.uint8)).save(clips / "my clip.png")
    return predicted_of(model, folder, rate)


def predicted_of(model, folder, rate: int) -> tuple[np.ndarray, dict[str, str]]:
    """What becomes of the one clip in the folder `clips`."""
    data = BinauralFolder(root=folder / "clips", hop=0.3)
    trainer(folder / "run").predict(model, data)
    with (folder / "run" / "predictions.csv").open() as file:
        (row,) = csv.DictReader(file)
    found, found_rate = soundfile.read(folder / "run" / row["file"], dtype="float32", always_2d=True)
    assert found_rate == rate
    assert (folder / "run" / row["file"].replace(".wav", ".png")).is_file()
    return found.T, row


@pytest.mark.parametrize(("rate", "seconds"), [(44_100, 1.3), (8_000, 0.2), (22_051, 0.7)])
def test_a_mono_sound_and_a_picture_become_two_ears_of_its_rate_and_length(tmp_path, rate, seconds):
    waveform = np.random.default_rng(1).uniform(-0.3, 0.3, round(rate * seconds)).astype("float32")
    found, row = predicted(with_a_difference(binaural.mono2binaural()), tmp_path, waveform, rate)
    assert found.shape == (2, len(waveform))
    np.testing.assert_allclose(found.mean(0), waveform, atol=1e-4)
    assert np.abs(found[0] - found[1]).max() > 0.01
    assert float(row["seconds"]) == pytest.approx(seconds, abs=1e-4)


def test_a_video_is_heard_with_two_ears_by_its_own_sound(tmp_path):
    waveform = np.random.default_rng(3).uniform(-0.3, 0.3, (2, 22_050)).astype("float32")
    path = write_video(tmp_path / "clips" / "my clip.mp4", seconds=1, waveform=waveform, sound_rate=22_050)
    track, _ = read_sound_track(path)
    found, _ = predicted_of(with_a_difference(binaural.ccstereo()), tmp_path, 22_050)
    assert found.shape == track.shape
    np.testing.assert_allclose(found.mean(0), track.mean(0), atol=1e-4)
    assert np.abs(found[0] - found[1]).max() > 0.01


def test_a_sound_at_full_scale_is_not_clipped(tmp_path):
    waveform = np.sign(np.sin(np.arange(20_000) / 20)).astype("float32")
    found, row = predicted(with_a_difference(binaural.mono2binaural(), 1.0), tmp_path, waveform, 16_000)
    assert float(row["scaled"]) < 1
    assert 0.99 < np.abs(found).max() < 1
    np.testing.assert_allclose(found.mean(0) / float(row["scaled"]), waveform, atol=2e-4)


def test_a_clip_of_several_pieces_is_one_file_without_seams(tmp_path):
    waveform = np.random.default_rng(2).uniform(-0.3, 0.3, (8_000 * 13, 2)).astype("float32")
    found, _ = predicted(MonoMono(), tmp_path, waveform, 8_000)
    np.testing.assert_allclose(found, np.tile(waveform.mean(1), (2, 1)), atol=1e-4)


def test_a_test_writes_distances_and_pictures(tmp_path):
    data = FAIRPlay(root=tmp_path / "data", demo=10, hop=0.3)
    (logged,) = trainer(tmp_path / "run").test(MonoMono(), data, verbose=False)
    with (tmp_path / "run" / "distances.csv").open() as file:
        written = {row["distance"]: float(row["value"]) for row in csv.DictReader(file)}
    assert written == {key.removeprefix("test/"): pytest.approx(value, rel=1e-4) for key, value in logged.items()}
    assert written["magnitude_distance"] == pytest.approx(2 * written["stft_distance"], rel=1e-4)
    assert len(list((tmp_path / "run").glob("*.png"))) == 2
