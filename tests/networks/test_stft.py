import librosa
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.synchronisations import Synchronisations
from zoo.networks.stft import STFT


def sound(*shape: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("pad_mode", ["constant", "reflect"])
@pytest.mark.parametrize("length", [300, 10080, 12345])
def test_spectrograms_are_librosas(pad_mode, length):
    waveform = sound(3, 2, length)
    found = STFT(pad_mode=pad_mode)(waveform)
    assert found.shape == (3, 2, 2, 257, 1 + length // 160)
    expected = librosa.stft(waveform.numpy(), n_fft=512, hop_length=160, win_length=400, pad_mode=pad_mode)
    np.testing.assert_allclose(found[:, :, 0], expected.real, atol=1e-5)
    np.testing.assert_allclose(found[:, :, 1], expected.imag, atol=1e-5)


@pytest.mark.parametrize("rows", [257, 256])
def test_the_inverse_is_librosas_with_as_many_rows(rows):
    spectrum = sound(2, 1, 2, rows, 64)
    found = STFT().inverse(spectrum, 10080)
    assert found.shape == (2, 1, 10080)
    of_complex = torch.complex(*spectrum.unbind(2)).numpy()
    expected = librosa.istft(of_complex, hop_length=160, win_length=400, center=True, length=10080)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@given(st.integers(257, 4000), st.sampled_from(["constant", "reflect"]), st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_there_and_back_is_the_waveform(length, pad_mode, seed):
    transform, waveform = STFT(pad_mode=pad_mode), sound(2, length, seed=seed)
    torch.testing.assert_close(transform.inverse(transform(waveform), length), waveform, atol=1e-6, rtol=0)


def test_a_single_waveform_has_no_batch():
    transform, waveform = STFT(), sound(1, 2000)
    assert torch.equal(transform(waveform[0]), transform(waveform)[0])
    assert torch.equal(transform.inverse(transform(waveform[0]), 2000), transform.inverse(transform(waveform), 2000)[0])


def test_the_inverse_beyond_the_last_frame_is_silent():
    transform = STFT()
    found = transform.inverse(transform(sound(1, 1600)), 3000)
    assert found.shape == (1, 3000)
    assert not found[:, 1600 + 256 :].any()
    assert torch.isfinite(found).all()


def test_gradients_reach_the_waveform_and_the_spectrum():
    transform, waveform = STFT(), sound(1, 1, 800).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: transform.inverse(transform(x) * 2, 800)[..., ::37], waveform)


def test_autocast_leaves_it_in_float32_and_it_does_not_wait_for_the_device():
    transform, waveform = STFT(), sound(2, 1, 2000)
    with torch.autocast("cpu", torch.bfloat16), Synchronisations() as host:
        found = transform(waveform)
        transform.inverse(found, 2000)
    assert not host.seen
    assert torch.equal(found, transform(waveform))
    assert transform.inverse(found.bfloat16(), 2000).dtype == torch.float32
    assert not transform.state_dict()
