import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from datamodules.binaural import frames, windows
from datamodules.binaural.frames import FrameFolder, StillPicture, VideoFrames
from tests.support.clips import brightness, write_frames, write_video
from zoo.core.errors import DataError
from zoo.core.randomness import numpy_generator

SIZE = (224, 448)


@given(st.integers(1, 300_000), st.integers(100, 12_000), st.integers(50, 3_000))
@settings(max_examples=60, deadline=None)
def test_windows_cover_the_clip_and_none_is_superfluous(samples, window, hop):
    hop = min(hop, window)
    starts = windows.regular_starts(samples, window, hop)
    assert windows.covered(starts, window) >= samples
    assert len(starts) == 1 or windows.covered(starts[:-1], window) < samples
    assert starts[0] == 0
    assert (np.diff(starts) == hop).all()

    flush = windows.flush_starts(samples, window, hop)
    assert flush[0] == 0
    assert flush[-1] == max(0, samples - window)
    assert (np.diff(flush) > 0).all()
    assert (np.diff(flush) <= hop).all()


def test_clips_that_are_a_little_short_of_ten_seconds_see_their_frames_too_early():
    starts = windows.regular_starts(159_744)
    whole, by_time = windows.frames_by_whole_seconds(starts, 159_744, 0.1), windows.frames_by_time(starts, 0.1)
    assert (whole[0], whole[-1]) == (4, 88)
    assert by_time[-1] == 98
    starts = windows.regular_starts(160_000)
    assert np.array_equal(windows.frames_by_whole_seconds(starts, 160_000, 0.1), windows.frames_by_time(starts, 0.1))


def test_the_last_window_of_mono2binaural_sees_the_frame_near_the_end():
    starts = windows.flush_starts(160_000)
    found = windows.frames_of_a_given_length(starts, 160_000, 10)
    assert (found[0], found[-1]) == (4, 97)
    assert (np.diff(found) >= 0).all()


def test_the_five_crops_are_corners_and_centre_and_lie_inside():
    looks = [frames.one_of_five(number, SIZE) for number in range(10)]
    assert [(look.left, look.upper) for look in looks[:5]] == [(0, 0), (32, 0), (0, 16), (32, 16), (16, 8)]
    assert looks[5:] == looks[:5]


def test_crops_are_drawn_from_everywhere_and_colours_from_07_to_13():
    rng = numpy_generator("test")
    looks = [frames.draw_look(rng, SIZE) for _ in range(600)]
    lefts, uppers, *factors = (np.array(column) for column in zip(*looks, strict=True))
    assert set(lefts) == set(range(33))
    assert set(uppers) == set(range(17))
    for factor in factors:
        assert (factor.min() >= 0.7, factor.max() <= 1.3) == (True, True)
        assert abs(factor.mean() - 1) < 0.03


def test_a_crop_is_a_part_of_the_resized_picture():
    pixels = np.random.default_rng(0).integers(0, 256, (90, 160, 3)).astype(np.uint8)
    picture = Image.fromarray(pixels)
    found = frames.crop(picture, frames.Look(5, 3), SIZE)
    whole = torch.from_numpy(np.array(picture.resize((480, 240)))).permute(2, 0, 1) / 255
    assert torch.equal(found, whole[:, 3:227, 5:453])
    dark = frames.crop(picture, frames.Look(5, 3, brightness=0.7), SIZE)
    torch.testing.assert_close(dark, 0.7 * found, atol=1 / 255, rtol=0)
    grey = frames.crop(picture, frames.Look(5, 3, saturation=0.7), SIZE)
    assert grey.std(0).mean() < 0.8 * found.std(0).mean()
    assert frames.squeeze(picture, SIZE).shape == (3, *SIZE)


def test_a_video_and_its_extracted_frames_are_numbered_alike(tmp_path):
    video = VideoFrames(write_video(tmp_path / "clip.mp4", seconds=3))
    folder = FrameFolder(tmp_path / "frames")
    folder.path.mkdir()
    for number, picture in enumerate(video.read(range(1, 31)), start=1):
        picture.save(folder.path / f"{number:06d}.png")
    for first, second in zip(video.read([4, 17, 29]), folder.read([4, 17, 29]), strict=True):
        assert np.array_equal(first, second)
    with pytest.raises(DataError, match=r"clip.mp4 has 30 frames .* number 30 \(the first is 0\)"):
        video.read([31])
    with pytest.raises(DataError, match=r"clip\.mp4"):
        video.read([0])
    held = VideoFrames(video.path, hold=True).read([0, 31])
    assert np.array_equal(held[0], video.read([1])[0])


def test_frames_of_a_later_clip_are_counted_from_its_first(tmp_path):
    write_frames(tmp_path, 6, first=20, suffix=".jpg")
    (picture,) = FrameFolder(tmp_path, ".jpg", first=20).read([3])
    assert abs(brightness(picture) - 46) <= 1


@pytest.mark.parametrize("what", ["missing", "cut", "no picture", "animated text"])
def test_a_broken_frame_is_named(what, tmp_path):
    write_frames(tmp_path, 5)
    path = tmp_path / "000003.png"
    if what == "missing":
        path.unlink()
    else:
        path.write_bytes({"cut": path.read_bytes()[:60], "no picture": b"", "animated text": b"GIF89a" * 9}[what])
    with pytest.raises(DataError, match=r"000003\.png") as caught:
        FrameFolder(tmp_path).read([2, 3])
    assert "\n" not in str(caught.value)
    assert [line.count("000003.png") > 0 for line in FrameFolder(tmp_path).problems(range(1, 6))] == [True]
    with pytest.raises(DataError, match=r"000003\.png"):
        StillPicture(path).read([1])
