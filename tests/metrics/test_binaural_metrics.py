import math

import librosa
import numpy as np
import pytest
import scipy.signal
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.ranks import on_ranks
from tests.support.synchronisations import Synchronisations
from zoo.metrics.binaural import COLUMNS, ClipMean, angle_between, binaural_metrics, envelope
from zoo.metrics.mrstft import MultiResolutionSTFT, a_weighting

T = 4001  # odd, and no multiple of a hop


def clips(count: int, seed: int = 0, length: int = T) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    target = 0.2 * torch.randn(count, 2, length, generator=generator)
    return target + 0.05 * torch.randn(count, 2, length, generator=generator), target


def spectrum(channel: np.ndarray, pad_mode: str = "constant") -> np.ndarray:
    return librosa.stft(channel, n_fft=512, hop_length=160, win_length=400, pad_mode=pad_mode)


def angles(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.abs(np.angle(np.exp(1j * (np.angle(first) - np.angle(second)))))


def by_the_page(prediction: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """The published columns of one clip, channel by channel."""
    y, x = (stereo / max(1e-20, np.abs(stereo).max()) for stereo in (prediction, target))
    found = dict.fromkeys(COLUMNS, 0.0)
    for channel in range(2):
        difference = spectrum(y[channel]) - spectrum(x[channel])
        found["stft_distance"] += np.mean([difference.real**2, difference.imag**2])
        found["magnitude_distance"] += np.mean(np.abs(difference) ** 2)
        envelopes = [np.abs(scipy.signal.hilbert(stereo[channel])) for stereo in (y, x)]
        found["envelope_distance"] += np.sqrt(np.mean((envelopes[0] - envelopes[1]) ** 2))
        found["waveform_distance"] += 1000 * np.mean((y[channel] - x[channel]) ** 2)
        pair = [spectrum(stereo[channel], "reflect") for stereo in (y, x)]
        found["amplitude_distance"] += np.mean(np.abs(np.abs(pair[0]) - np.abs(pair[1])))
        sizes = [np.abs(part.real) + np.abs(part.imag) for part in pair]
        loud = (sizes[0] > 0.2 * sizes[1].mean()) & (sizes[1] > 0.2 * sizes[1].mean())
        found["phase_distance"] += angles(*pair)[loud].mean()
    found["difference_phase_distance"] = angles(spectrum(y[0] - y[1]), spectrum(x[0] - x[1])).mean()
    found["snr"] = 10 * np.log10((np.mean(x**2) + 1e-4) / (np.mean((y - x) ** 2) + 1e-4))
    del found["mrstft"]
    return found


@pytest.mark.parametrize("length", [T, 16_000])
def test_columns_are_their_published_definitions(length):
    prediction, target = clips(3, length=length)
    expected = [by_the_page(y, x) for y, x in zip(prediction.numpy(), target.numpy(), strict=True)]
    for name in expected[0]:
        value = COLUMNS[name]()(prediction, target)
        assert value == pytest.approx(np.mean([row[name] for row in expected]), rel=1e-4), name


@given(st.integers(1025, 3000), st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_the_envelope_is_scipys(length, seed):
    waveform = clips(1, seed, length)[0][0]
    np.testing.assert_allclose(envelope(waveform), np.abs(scipy.signal.hilbert(waveform.numpy())), atol=1e-5)


@given(st.floats(-10, 10), st.floats(-10, 10))
@settings(max_examples=30, deadline=None)
def test_angles_are_wrapped(first, second):
    pair = [torch.polar(torch.tensor(2.0), torch.tensor(angle, dtype=torch.float32)) for angle in (first, second)]
    expected = abs((first - second + math.pi) % (2 * math.pi) - math.pi)
    assert angle_between(*pair) == pytest.approx(expected, abs=2e-3)


# -- means over clips --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COLUMNS)
def test_each_clip_counts_once_whatever_the_batches(name):
    prediction, target = clips(5)
    single = torch.stack([COLUMNS[name]()(y[None], x[None]) for y, x in zip(prediction, target, strict=True)])
    for cuts in ([5], [2, 2, 1], [1, 4]):
        metric = COLUMNS[name]()
        for y, x in zip(prediction.split(cuts), target.split(cuts), strict=True):
            metric.update(y, x)
        torch.testing.assert_close(metric.compute(), single.mean(), rtol=1e-5, atol=0)


def on_rank(shares: list[list[int]]) -> dict[str, torch.Tensor]:
    import torch.distributed as dist

    prediction, target = clips(5)
    metrics = binaural_metrics("test")
    for index in shares[dist.get_rank()]:
        metrics.update(prediction[index : index + 1], target[index : index + 1])
    return metrics.compute()


@pytest.mark.slow
def test_two_ranks_with_unequal_shares_are_one():
    prediction, target = clips(5)
    expected = binaural_metrics("test")(prediction, target)
    for found in on_ranks(2, on_rank, [[0, 2, 4], [1, 3]]):
        assert set(found) == {f"test/{name}" for name in COLUMNS}
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-5, atol=0)


def test_a_first_batch_of_silence_joins_no_columns():
    """torchmetrics would update one metric for all whose states were equal once."""
    metrics, silence = binaural_metrics("val"), torch.zeros(1, 2, T)
    metrics.update(silence, silence)
    prediction, target = clips(1)
    metrics.update(prediction, target)
    found = metrics.compute()
    for name, column in COLUMNS.items():
        alone = column()
        alone.update(silence, silence)
        alone.update(prediction, target)
        torch.testing.assert_close(found[f"val/{name}"], alone.compute())


# -- what they promise -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COLUMNS)
def test_a_perfect_prediction_is_best_and_silence_is_finite(name):
    prediction, target = clips(2)
    column = COLUMNS[name]
    perfect, worse = column()(target, target), column()(prediction, target)
    if column.higher_is_better:
        assert perfect > worse
    else:
        assert perfect == pytest.approx(0, abs=1e-6)
        assert worse > 0
    silence = torch.zeros_like(target)
    for pair in ((silence, silence), (silence, target), (target, silence)):
        assert torch.isfinite(column()(*pair))


@pytest.mark.parametrize("name", COLUMNS)
def test_loudness_counts_only_if_it_is_asked_for(name):
    prediction, target = clips(2)
    quiet = 0.1 * prediction, 0.1 * target
    torch.testing.assert_close(COLUMNS[name]()(*quiet), COLUMNS[name]()(prediction, target), rtol=2e-4, atol=1e-5)
    if "phase" not in name and name != "mrstft":
        raw = COLUMNS[name](full_scale=False)
        assert not torch.isclose(raw(*quiet), raw(prediction, target), rtol=0.05)


def test_equal_ears_have_the_difference_phase_of_nothing():
    _, target = clips(1)
    mono = target.mean(1, keepdim=True).expand(-1, 2, -1)
    assert COLUMNS["difference_phase_distance"]()(mono, target) == pytest.approx(math.pi / 2, abs=0.05)


def test_they_keep_float32_under_autocast_and_do_not_wait_for_the_device():
    prediction, target = clips(2)
    metrics = binaural_metrics("val")
    metrics.update(prediction, target)
    plain = metrics.compute()
    metrics.reset()
    with torch.autocast("cpu", torch.bfloat16), Synchronisations() as host:
        metrics.update(prediction, target)
    assert not host.seen
    for name, value in metrics.compute().items():
        assert torch.equal(value, plain[name]), name


def test_a_column_must_say_what_it_measures():
    with pytest.raises(NotImplementedError):
        ClipMean().update(*clips(1))


# -- multi-resolution STFT ---------------------------------------------------------------------------------------------


def test_the_a_curve_is_that_of_the_standard_where_the_bilinear_transform_leaves_it():
    """IEC 61672, table 3, in dB."""
    taps = a_weighting(16_000, 2001).numpy()
    for hertz, decibels in {250: -8.6, 500: -3.2, 1000: 0.0, 2000: 1.2}.items():
        response = np.abs(np.sum(taps * np.exp(-2j * np.pi * hertz / 16_000 * np.arange(len(taps)))))
        assert 20 * np.log10(response) == pytest.approx(decibels, abs=0.3)


def test_it_is_zero_for_equals_and_each_clip_by_itself():
    prediction, target = clips(3)
    distance = MultiResolutionSTFT()
    assert distance(target, target) == pytest.approx(torch.zeros(3))
    found = distance(prediction, target)
    alone = torch.cat([distance(y[None], x[None]) for y, x in zip(prediction, target, strict=True)])
    torch.testing.assert_close(found, alone)
    assert not distance.state_dict()


def test_half_the_amplitude_is_half_the_target_away():
    """Spectral convergence 1/2, and the logarithm of 2, at every resolution."""
    _, target = clips(2)
    found = MultiResolutionSTFT(perceptual_weighting=False)(target / 2, target)
    torch.testing.assert_close(found, torch.full((2,), 0.5 + math.log(2)), rtol=1e-3, atol=0)
