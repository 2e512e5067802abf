import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.networks.binaural import LEAST_RMS, both_ears, cut_windows, overlap_add, scale_to_rms


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_loudness_is_that_of_all_channels_together_and_can_be_undone():
    waveform = noise(3, 2, 500) * torch.tensor([0.3, 0.01, 2.0])[:, None, None]
    scaled, normalizer = scale_to_rms(waveform)
    torch.testing.assert_close(scaled.square().mean((1, 2)).sqrt(), torch.full((3,), 0.1))
    torch.testing.assert_close(scaled * normalizer, waveform)


def test_silence_stays_silent_and_near_silence_is_not_blown_up():
    scaled, normalizer = scale_to_rms(torch.stack([torch.zeros(1, 400), 1e-6 * noise(1, 400)]))
    assert not scaled[0].any()
    assert scaled[1].abs().max() < 0.01
    torch.testing.assert_close(normalizer.flatten(), torch.full((2,), LEAST_RMS * 10))


def test_both_ears_come_back_from_sum_and_difference():
    stereo = noise(4, 2, 100)
    mono, difference = stereo.sum(1, keepdim=True), stereo[:, :1] - stereo[:, 1:]
    torch.testing.assert_close(both_ears(mono, difference), stereo)


@given(st.integers(1, 60), st.integers(1, 30), st.integers(1, 8), st.integers(0, 50))
@settings(max_examples=30, deadline=None)
def test_windows_added_where_they_were_cut_give_the_sound_back(length, size, hop, seed):
    waveform = noise(2, 2, length, seed=seed)
    starts = torch.arange(0, length, hop).expand(2, -1)
    windows = cut_windows(waveform, starts, size)
    assert windows.shape == (2, starts.shape[1], 2, size)
    assert torch.equal(windows[1, 0, 1, : min(size, length)], waveform[1, 1, :size])
    reached = overlap_add(torch.ones_like(windows), starts, length) > 0
    torch.testing.assert_close(overlap_add(windows, starts, length), torch.where(reached, waveform, 0.0))


def test_each_clip_has_starts_of_its_own_and_differing_windows_are_averaged():
    windows = torch.stack([torch.full((2, 1, 4), 1.0), torch.full((2, 1, 4), 3.0)])
    windows[0, 1] = 5
    found = overlap_add(windows, torch.tensor([[0, 2], [0, 6]]), 8)
    assert found[0, 0].tolist() == [1, 1, 3, 3, 5, 5, 0, 0]
    assert found[1, 0].tolist() == [3, 3, 3, 3, 0, 0, 3, 3]
