import os
from pathlib import Path

import librosa
import numpy as np
import pytest

from datamodules.binaural.waveforms import StereoFile, resample
from tests.support.clips import noise, write_wav
from zoo.core.errors import DataError


def stereo_file(folder: Path, waveform: np.ndarray, rate: int = 16_000, subtype: str = "FLOAT") -> StereoFile:
    return StereoFile(write_wav(folder / "data" / "clip.wav", waveform, rate, subtype), folder / "cache")


def test_a_part_is_what_lies_there(tmp_path):
    waveform = noise(2, 5000)
    file = stereo_file(tmp_path, waveform)
    assert file.length() == 5000
    assert np.array_equal(file.read(), waveform)
    assert np.array_equal(file.read(1234, 2345), waveform[:, 1234:2345])
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("rate", [48_000, 44_100, 22_050, 8_000])
def test_another_rate_is_resampled_as_librosa_does_once(rate, tmp_path):
    file = stereo_file(tmp_path, noise(2, rate // 2 + 7), rate)
    expected, _ = librosa.load(file.path, sr=16_000, mono=False)
    assert file.length() == expected.shape[1]
    np.testing.assert_allclose(file.read(100, 900), expected[:, 100:900], atol=1e-6)
    cached = tmp_path / "cache" / "clip.wav"
    made = cached.stat()
    np.testing.assert_allclose(file.read(), expected, atol=1e-6)
    assert cached.stat().st_mtime_ns == made.st_mtime_ns
    assert [path.name for path in cached.parent.iterdir()] == ["clip.wav"]


def test_what_is_resampled_follows_a_changed_file(tmp_path):
    file = stereo_file(tmp_path, noise(2, 4800), 48_000)
    file.read()
    os.utime(tmp_path / "cache" / "clip.wav", (1, 1))
    write_wav(file.path, noise(2, 9600, seed=1), 48_000)
    assert file.read().shape == (2, 3200)


def test_a_folder_that_cannot_be_written_is_named_with_the_way_out(tmp_path):
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(DataError, match=r"cache cannot be written .*--data.cache"):
        stereo_file(tmp_path, noise(2, 480), 48_000).read()


def test_any_length_and_shape_is_resampled_to_what_librosa_says():
    for samples in (1, 2, 100, 44_101):
        waveform = noise(1, samples)[0]
        found = resample(waveform, 44_100)
        expected = librosa.resample(waveform, orig_sr=44_100, target_sr=16_000, res_type="soxr_hq")
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_silence_is_read_as_silence(tmp_path):
    assert not stereo_file(tmp_path, np.zeros((2, 4800), np.float32), 48_000).read().any()


def broken(path: Path, what: str) -> str:
    content = path.read_bytes()
    match what:
        case "missing":
            path.unlink()
            return "is missing"
        case "cut":
            path.write_bytes(content[: len(content) // 2])
            return "is cut"
        case "empty":
            path.write_bytes(b"")
            return "is not a WAV file"
        case "header alone":
            write_wav(path, noise(2, 0))
            return "holds no sound"
        case "no number":
            write_wav(path, np.full((2, 2000), np.nan, np.float32))
            return "no numbers"
        case "mono":
            write_wav(path, noise(1, 2000))
            return "has 1 channel; the sound of both ears, two, is needed here"
        case "surround":
            write_wav(path, noise(6, 2000))
            return "has 6 channels"
        case "other rate, mono":
            write_wav(path, noise(1, 2000), 48_000)
            return "has 1 channel;"
        case "absurd rate":
            write_wav(path, noise(2, 2000), 999_999)
            return "has 999,999 Hz"


@pytest.mark.parametrize(
    "what",
    ["missing", "cut", "empty", "header alone", "no number", "mono", "surround", "other rate, mono", "absurd rate"],
)
def test_a_broken_sound_is_named(what, tmp_path):
    file = stereo_file(tmp_path, noise(2, 2000))
    message = broken(file.path, what)
    with pytest.raises(DataError, match=f"clip.wav {message}|clip.wav .*{message}") as caught:
        file.read()
    assert "\n" not in str(caught.value)
