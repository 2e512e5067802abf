import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.networks.mfcc import MFCC

librosa = pytest.importorskip("librosa")

LENGTHS = (1, 2, 3, 500, 1536, 2048, 3071, 3072, 3500, 6144, 18_262, 30_717)


@pytest.fixture(scope="module")
def mfcc():
    return MFCC()


def wave(length: int, seed: int, loudness: float = 0.3) -> np.ndarray:
    """Something like a voice: harmonics that fade, with a little noise, quantised as in a 16-bit file."""
    rng = np.random.default_rng(seed)
    time = np.arange(length) / 8000
    pitch = rng.uniform(90, 220)
    voice = sum(np.sin(2 * np.pi * pitch * k * time + rng.uniform(0, 6)) / k for k in range(1, 15))
    sound = loudness * voice * np.exp(-4 * time) / 3 + rng.normal(0, 1e-3, length)
    return (np.round(np.clip(sound, -1, 1) * 32767) / 32768).astype(np.float32)


def batch(waves: list[np.ndarray], fill: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    lengths = torch.tensor([len(w) for w in waves])
    padded = torch.full((len(waves), int(lengths.max())), fill)
    for row, w in zip(padded, waves, strict=True):
        row[: len(w)] = torch.from_numpy(w)
    return padded, lengths


def assert_equals_librosa(coefficients: torch.Tensor, waves: list[np.ndarray]) -> None:
    assert coefficients.shape == (len(waves), 1, 20, 20)
    assert coefficients.dtype == torch.float32
    for got, w in zip(coefficients[:, 0].numpy(), waves, strict=True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # n_fft is larger than some clips
            # In float64: librosa's own float32 is off by up to 1e-4 where the first coefficient is near 1,000.
            expected = librosa.feature.mfcc(y=w[::3].astype(np.float64), sr=8000, n_mfcc=20)
        frames = expected.shape[1]
        np.testing.assert_allclose(got[:, :frames], expected, rtol=0, atol=1e-4)
        assert not got[:, frames:].any()


def test_equals_librosa_for_short_and_long_clips_in_one_batch(mfcc):
    waves = [wave(length, seed) for seed, length in enumerate(LENGTHS)]
    assert_equals_librosa(mfcc(*batch(waves)), waves)


def test_equals_librosa_for_silent_faint_and_clipped_clips(mfcc):
    waves = [np.zeros(4000, np.float32), np.zeros(1, np.float32)]
    waves += [wave(4000, 1, loudness) for loudness in (1e-4, 1e-2, 30.0)]
    faded = wave(9000, 2)
    faded[4000:] = 0  # later frames lie under the floor
    clicks = np.zeros(3 * (5 * 512 + 511), np.float32)
    clicks[-3] = 0.5  # louder in the frame after the clip's last one
    waves += [faded, clicks, wave(18_000, 3)]
    assert_equals_librosa(mfcc(*batch(waves)), waves)


def test_equals_librosa_on_recordings(mfcc):
    soundfile = pytest.importorskip("soundfile")
    folder = Path(os.environ.get("ZOO_TEST_DATA", "/nonexistent")) / "free-spoken-digit-dataset/recordings"
    files = sorted(folder.glob("*.wav"))[::25]
    if not files:
        pytest.skip("ZOO_TEST_DATA names no folder with free-spoken-digit-dataset/recordings")
    waves = [soundfile.read(file, dtype="float32")[0] for file in files]
    assert_equals_librosa(mfcc(*batch(waves)), waves)


def test_padding_is_not_read(mfcc):
    waves = [wave(length, seed) for seed, length in enumerate((500, 3500, 9000))]
    torch.testing.assert_close(mfcc(*batch(waves, fill=float("nan"))), mfcc(*batch(waves)), rtol=0, atol=0)


def test_a_loud_neighbour_does_not_raise_the_floor(mfcc):
    faint, loud = wave(4000, 0, 1e-3), wave(4000, 1, 3.0)
    together, alone = mfcc(*batch([faint, loud]))[:1], mfcc(*batch([faint]))
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(length=st.integers(1, 12_000), padding=st.integers(0, 12_000), seed=st.integers(0, 99))
def test_neither_sign_nor_padding_changes_anything(mfcc, length, padding, seed):
    signal, lengths = batch([wave(length, seed)])
    expected = mfcc(signal, lengths)
    torch.testing.assert_close(mfcc(-signal, lengths), expected, rtol=0, atol=1e-5)
    padded = torch.nn.functional.pad(signal, (0, padding))
    torch.testing.assert_close(mfcc(padded, lengths), expected, rtol=0, atol=1e-4)


def test_of_a_longer_clip_only_the_first_frames_are_seen(mfcc):
    long = wave(50_000, 0, 1.0)
    seen = 3 * (19 * 512 + 1024)
    coefficients = mfcc(*batch([long]))
    assert coefficients.shape == (1, 1, 20, 20)
    long[seen:] = 1.0
    torch.testing.assert_close(mfcc(*batch([long])), coefficients, rtol=0, atol=0)
    long[seen - 3] = 1.0
    assert (mfcc(*batch([long])) != coefficients).any()


def test_autocast_does_not_reach_it(mfcc):
    signal, lengths = batch([wave(4000, 0), np.zeros(4000, np.float32)])
    with torch.autocast("cpu", torch.bfloat16):
        coefficients = mfcc(signal, lengths)
    torch.testing.assert_close(coefficients, mfcc(signal, lengths), rtol=0, atol=0)


def test_checkpoints_hold_nothing_of_it(mfcc):
    assert not mfcc.state_dict()
    assert {buffer.dtype for buffer in mfcc.buffers()} == {torch.float32}


def test_sizes_follow_the_arguments():
    signal, lengths = batch([wave(4000, 0)])
    assert MFCC(decimation=1, n_mfcc=13, frames=9)(signal, lengths).shape == (1, 1, 13, 9)
