from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.video import read_frames, read_sound_track
from tests.support.clips import brightness, noise, write_video, write_wav
from zoo.core.errors import DataError

av = pytest.importorskip("av")


def extracted(path: Path, rate: int = 10) -> list[Image.Image]:
    """What `ffmpeg -i path -vf fps=rate` writes: the filter itself."""
    frames = []
    with av.open(str(path)) as container:
        stream, graph = container.streams.video[0], av.filter.Graph()
        source, sink = graph.add_buffer(template=stream), graph.add("buffersink")
        fps = graph.add("fps", str(rate))
        source.link_to(fps)
        fps.link_to(sink)
        graph.configure()
        for frame in [*container.decode(stream), None]:
            source.push(frame)
            while True:
                try:
                    frames.append(sink.pull().to_image())
                except (av.error.BlockingIOError, av.error.EOFError):
                    break
    return frames


@pytest.mark.parametrize("rate", [30, Fraction(30000, 1001), 25, 12, 10, 7])
def test_frames_are_those_that_ffmpeg_extracts(rate, tmp_path):
    path = write_video(tmp_path / "clip.mp4", seconds=4, rate=rate)
    expected = extracted(path)
    found = read_frames(path, range(len(expected)))
    for ours, theirs in zip(found, expected, strict=True):
        assert np.array_equal(ours, theirs)
    with pytest.raises(DataError, match=f"has {len(expected)} frames at 10 per second; number {len(expected)} "):
        read_frames(path, [len(expected)])


def test_frames_in_the_middle_are_sought_and_come_in_the_order_asked_for(tmp_path):
    path = write_video(tmp_path / "clip.mp4", seconds=4)
    expected = extracted(path)
    for numbers in ([35], [38, 12, 38], [11, 0]):
        for number, picture in zip(numbers, read_frames(path, numbers), strict=True):
            assert np.array_equal(picture, expected[number])


def test_the_last_frame_can_be_held(tmp_path):
    path = write_video(tmp_path / "clip.mp4", seconds=2)
    shown = [brightness(picture) for picture in read_frames(path, [5, 30, 500], hold=True)]
    assert abs(shown[0] - 2 * 15) <= 1  # the way to YUV and back
    assert abs(shown[1] - 2 * 59) <= 1
    assert shown[1] == shown[2]


def test_sound_is_that_of_the_track_without_the_codecs_padding(tmp_path):
    time = np.arange(16_000) / 16_000
    waveform = np.stack([0.5 * np.sin(2 * np.pi * 440 * time), 0.2 * np.sin(2 * np.pi * 880 * time)])
    found, rate = read_sound_track(write_video(tmp_path / "clip.mp4", 1, waveform=waveform))
    assert (rate, found.dtype, found.shape) == (16_000, np.float32, (2, 16_000))  # of blocks of 1,024
    assert np.abs(found[:, 2000:14_000] - waveform[:, 2000:14_000]).max() < 0.02


BROKEN = {
    "missing": (None, "cannot be read: No such file"),
    "empty": (b"", "cannot be read"),
    "garbage": (bytes(range(256)) * 50, "cannot be read"),
    "playlist": (b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n/etc/passwd\n#EXT-X-ENDLIST\n", "cannot be read"),
    "script": (b"ffconcat version 1.0\nfile '/etc/passwd'\n", "cannot be read"),
}


@pytest.mark.parametrize("what", BROKEN)
@pytest.mark.parametrize("read", [lambda path: read_frames(path, [0]), read_sound_track])
def test_a_file_that_is_no_video_is_named(what, read, tmp_path):
    content, message = BROKEN[what]
    path = tmp_path / "clip.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=f"clip.mp4 {message}") as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_a_script_that_names_another_video_is_no_video(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "other.mp4")
    (tmp_path / "clip.mp4").write_text("ffconcat version 1.0\nfile 'other.mp4'\n")
    with pytest.raises(DataError, match=r"clip.mp4 cannot be read"):
        read_frames(tmp_path / "clip.mp4", [0])


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_video_that_is_cut_is_named(share, tmp_path):
    path = write_video(tmp_path / "clip.mp4", seconds=4)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=r"clip.mp4 cannot be read"):
        read_frames(path, [38])


def test_a_video_whose_middle_is_garbled_gives_frames_or_an_error_and_nothing_else(tmp_path):
    path = write_video(tmp_path / "clip.mp4", seconds=4)
    content = bytearray(path.read_bytes())
    content[len(content) // 4 : len(content) // 2] = bytes(len(content) // 2 - len(content) // 4)
    path.write_bytes(content)
    try:
        found = read_frames(path, [5, 20])
    except DataError as error:
        found = str(error).split("clip.mp4")
    assert len(found) == 2


def test_what_a_file_lacks_is_said(tmp_path):
    with pytest.raises(DataError, match=r"silent.mp4 has no sound track"):
        read_sound_track(write_video(tmp_path / "silent.mp4"))
    with pytest.raises(DataError, match=r"sound.wav holds no pictures"):
        read_frames(write_wav(tmp_path / "sound.wav", noise(2, 1000)), [0])
