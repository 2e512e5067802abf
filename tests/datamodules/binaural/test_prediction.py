from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.base import make_demo
from datamodules.batch import check_batch
from datamodules.binaural.folder import BinauralFolder
from datamodules.binaural.waveforms import resample
from datamodules.binaural.windows import regular_starts
from datamodules.binaural.yt_clean import YTClean
from datamodules.registry import catalogue
from tests.support.clips import noise, write_frames, write_video, write_wav
from zoo.core.errors import DataError, RecipeError, UnknownNameError
from zoo.networks.binaural import cut_windows, overlap_add, scale_to_rms

SMALL = {"frame_size": (14, 28)}


def pieces_of(data: BinauralFolder) -> list[dict]:
    batches = list(data.loader("predict"))
    for batch in batches:
        check_batch(batch, data.task, predict=True)
    return batches


@pytest.fixture
def still(tmp_path) -> Path:
    path = tmp_path / "still.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 60, 3)).astype(np.uint8)).save(path)
    return path


def message_of(**arguments) -> str:
    with pytest.raises(DataError) as caught:
        list(BinauralFolder(**SMALL, **arguments).loader("predict"))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_it_is_registered_with_its_task():
    entry = catalogue.entry(BinauralFolder.name)
    assert entry.load() is BinauralFolder
    assert entry.facts["task"] == BinauralFolder.task


# -- sound of any kind -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 96_000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_sound_of_any_rate_and_channels_becomes_what_both_ears_hear_together(rate, channels, still, tmp_path):
    waveform = noise(channels, rate + 17)
    sound = write_wav(tmp_path / "sound.wav", waveform, rate)
    (batch,) = pieces_of(BinauralFolder(audio=sound, video=still, **SMALL))
    assert batch["source_rate"].tolist() == [rate]
    np.testing.assert_allclose(batch["source"][0], 2 * waveform.mean(0), atol=1e-6)
    assert batch["keep"].tolist() == [[0, rate + 17]]
    assert batch["piece"].tolist() == [[0, 1]]
    assert batch["lengths"]["audio"].tolist() == [-(-(rate + 17) * 16_000 // rate)]
    if rate == 16_000:
        assert torch.equal(batch["modalities"]["audio"], batch["source"])


def test_a_sound_shorter_than_a_window_is_one_window(still, tmp_path):
    (batch,) = pieces_of(BinauralFolder(audio=write_wav(tmp_path / "short.wav", noise(1, 500)), video=still, **SMALL))
    assert batch["window_start"].tolist() == [[0]]
    assert batch["modalities"]["audio"].shape == (1, 500)


def test_one_picture_is_given_once_per_crop(still, tmp_path):
    (batch,) = pieces_of(BinauralFolder(audio=write_wav(tmp_path / "s.wav", noise(1, 80_000)), video=still, **SMALL))
    assert batch["frame_number"].tolist() == [[0, 1, 2, 3, 4]]
    assert set(batch["window_frame"][0].tolist()) == {0, 1, 2, 3, 4}


def test_a_video_brings_its_own_sound_and_holds_its_last_frame(tmp_path):
    waveform = noise(2, 3 * 22_050)
    path = write_video(tmp_path / "clip.mp4", seconds=2, waveform=waveform, sound_rate=22_050)
    (batch,) = pieces_of(BinauralFolder(video=path, **SMALL))
    assert batch["id"] == ["clip"]
    assert abs(batch["source"].shape[1] - 3 * 22_050) < 1100
    shown = batch["modalities"]["video"][0].mean((1, 2, 3)) * 255
    late = batch["frame_number"][0] > 21
    assert late.any()
    torch.testing.assert_close(shown[late], torch.full_like(shown[late], 2.0 * 59), atol=1, rtol=0)
    assert (shown[~late].diff() > 0).all()


# -- pieces ------------------------------------------------------------------------------------------------------------


def mean_of_windows(audio: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
    """Something that depends on all of every window: [T]."""
    scaled, _ = scale_to_rms(cut_windows(audio[None, None], starts[None], 10_080))
    return overlap_add(scaled, starts[None], len(audio))[0, 0]


@pytest.mark.parametrize(("rate", "seconds"), [(16_000, 25.3), (16_000, 20.01), (22_050, 23.7), (8_000, 12.4)])
def test_pieces_of_a_long_clip_give_what_the_whole_clip_gives(rate, seconds, tmp_path, still):
    waveform = noise(1, int(seconds * rate)) * np.linspace(0.1, 1, int(seconds * rate), dtype=np.float32)
    data = BinauralFolder(audio=write_wav(tmp_path / "long.wav", waveform, rate), video=still, **SMALL)
    batches = pieces_of(data)
    count = len(batches)
    assert count == {25.3: 3, 20.01: 2, 23.7: 3, 12.4: 2}[seconds]
    assert [(batch["id"], batch["piece"].tolist()) for batch in batches] == [
        (["long"], [[number, count]]) for number in range(count)
    ]
    parts, kept = [], []
    for batch in batches:
        first, end = batch["keep"][0].tolist()
        kept.append(batch["source"][0, first:end])
        found = mean_of_windows(batch["modalities"]["audio"][0], batch["window_start"][0])
        parts.append(found[first * 16_000 // rate :][: -(-(end - first) * 16_000 // rate)])
    np.testing.assert_allclose(torch.cat(kept), 2 * waveform[0], atol=1e-6)
    audio = torch.from_numpy(resample(2 * waveform[0], rate))
    whole = mean_of_windows(audio, torch.from_numpy(regular_starts(len(audio))))
    torch.testing.assert_close(torch.cat(parts), whole, atol=2e-5, rtol=0)


def test_pieces_see_the_frames_of_their_time(tmp_path):
    path = write_video(tmp_path / "long.mp4", seconds=13, rate=10, waveform=noise(2, 13 * 16_000))
    first, second = pieces_of(BinauralFolder(video=path, **SMALL))
    assert first["frame_number"][0, 0] == 4
    assert second["frame_number"][0, -1] == 128
    both = set(first["frame_number"][0].tolist()) & set(second["frame_number"][0].tolist())
    assert both
    for number in both:
        shown = [b["modalities"]["video"][0, b["frame_number"][0].tolist().index(number)] for b in (first, second)]
        assert torch.equal(*shown)


# -- lists and folders -------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, still) -> Path:
    root = tmp_path / "own"
    root.mkdir()
    for name in ("b", "a"):
        write_wav(root / f"{name}.wav", noise(1, 4000))
        (root / f"{name}.png").write_bytes(still.read_bytes())
    write_video(root / "c.mp4", seconds=1, waveform=noise(2, 16_000))
    return root


def test_files_are_paired_by_name(folder):
    batches = pieces_of(BinauralFolder(root=folder, **SMALL))
    assert [batch["id"][0] for batch in batches] == ["a", "b", "c"]
    assert list(BinauralFolder.check(folder)) == []


def test_a_list_says_what_belongs_together(folder):
    path = folder / "clips.csv"
    path.write_text("audio,video,id\na.wav,c.mp4,x\n,c.mp4,\n\nb.wav,a.png,\n")
    assert [batch["id"][0] for batch in pieces_of(BinauralFolder(root=folder, **SMALL))] == ["x", "c", "b"]
    assert len(pieces_of(BinauralFolder(csv=path, **SMALL))) == 3


WRONG = {
    "a,b\n": "has no column video",
    "video,sound\n": "has a column 'sound' that is not known",
    "video\n": "lists no samples",
    "audio,video\na.wav\n": "line 2 has 1 cells, the header has 2",
    "audio,video\na.wav,\n": "line 2 names no video or picture",
    "audio,video\n,a.png\n": "line 2: .*a.png is a picture; name the sound",
    "audio,video\nz.wav,a.png\n": "line 2: .*z.wav is missing",
    "audio,video\n/etc/passwd,a.png\n": "line 2: '/etc/passwd' is no relative path",
    "audio,video\n../own/a.wav,a.png\n": "is no relative path that stays inside",
    "audio,video\na.wav,a.png\na.wav,c.mp4\n": "line 3: the id 'a' occurs twice",
    'audio,video\n"a.wav,a.png\n': "line 2: unexpected end of data",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_list_is_named(text, folder):
    (folder / "clips.csv").write_text(text)
    with pytest.raises(DataError, match=WRONG[text]) as caught:
        BinauralFolder(root=folder).source("predict")
    assert "clips.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


# -- bad input ---------------------------------------------------------------------------------------------------------


def test_a_video_without_sound_is_named(tmp_path):
    assert message_of(video=write_video(tmp_path / "silent.mp4")).endswith("silent.mp4 has no sound track.")


def test_a_sound_alone_and_a_picture_alone_are_not_enough(tmp_path, still):
    assert "still.png is a picture; name the sound that goes with it." in message_of(video=still)
    with pytest.raises(RecipeError, match=r"data.audio needs data.video"):
        BinauralFolder(audio="x.wav")
    write_wav(tmp_path / "alone" / "x.wav", noise(1, 2000))
    assert "x.wav has no video or picture of the same name" in message_of(root=tmp_path / "alone")


def test_broken_files_are_named(tmp_path, still):
    sound = write_wav(tmp_path / "sound.wav", noise(1, 20_000))
    assert "nothing.mp4 is missing." in message_of(video=tmp_path / "nothing.mp4")
    garbage = tmp_path / "garbage.mp4"
    garbage.write_bytes(b"garbage" * 100)
    assert "garbage.mp4 cannot be read" in message_of(video=garbage)
    assert "garbage.mp4 cannot be read" in message_of(audio=sound, video=garbage)
    sound.write_bytes(sound.read_bytes()[:3000])
    assert "sound.wav is cut" in message_of(audio=sound, video=still)


def test_digital_silence_is_predicted(tmp_path, still):
    sound = write_wav(tmp_path / "silence.wav", np.zeros((1, 20_000), np.float32))
    (batch,) = pieces_of(BinauralFolder(audio=sound, video=still, **SMALL))
    assert not batch["modalities"]["audio"].any()


def test_it_is_for_prediction_alone(folder):
    with pytest.raises(DataError, match="no recordings of two ears, so nothing for train"):
        BinauralFolder(root=folder).source("train")


def test_a_file_in_a_folder_that_is_not_there_is_named(tmp_path):
    data = BinauralFolder(video=tmp_path / "nowhere" / "clip.mp4")
    data.prepare_data()
    with pytest.raises(DataError, match=r"nowhere/clip.mp4 is missing"):
        data.source("predict")
    with pytest.raises(DataError, match=r"nowhere does not exist"):
        BinauralFolder(root=tmp_path / "nowhere").prepare_data()


def test_its_demo_is_predicted(tmp_path):
    make_demo(BinauralFolder, tmp_path / "demo", 2)
    batches = pieces_of(BinauralFolder(root=tmp_path / "demo", **SMALL))
    assert [batch["id"][0] for batch in batches] == ["clip000", "clip001"]


# -- YT-Clean ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def yt_clean(tmp_path) -> Path:
    root = tmp_path / "yt"
    for part, videos in {"train": "abcdefghijkl", "test": "xy"}.items():
        root.mkdir(exist_ok=True)
        (root / f"YT-Clean.{part}.1.lst").write_text("".join(f"{video}\n" for video in videos))
        for video in videos if part == "test" else videos[:-1]:
            for start in (0, 1, 10):
                write_wav(root / "frames" / video / "cipic_subj3" / f"{start}.wav", noise(2, 16_000))
            write_frames(root / "frames" / video / "video", 25, first=0, suffix=".jpg")
    return root


def test_yt_clean_leaves_the_last_sound_out_and_counts_frames_from_the_start_second(yt_clean):
    data = YTClean(root=yt_clean, window=0.2, hop=0.05, **SMALL)
    names = [clip.id for clip in data.clips("test")]
    assert names == ["x_0", "x_1", "y_0", "y_1"]  # by name, 10 comes before 2 and after 1
    first, second, *_ = data.loader("test")
    assert torch.equal(first["frame_number"], second["frame_number"])
    bright = [batch["modalities"]["video"][0].mean((1, 2, 3)) * 255 for batch in (first, second)]
    torch.testing.assert_close(bright[1] - bright[0], torch.full_like(bright[0], 20), atol=1.5, rtol=0)
    published = YTClean(root=yt_clean, window=0.2, hop=0.05, test_frames="first_seconds", **SMALL)
    first, second, *_ = published.loader("test")
    assert torch.equal(first["modalities"]["video"], second["modalities"]["video"])


def test_yt_cleans_validation_is_held_out_or_as_published_the_test_list(yt_clean):
    def videos(split: str, **arguments) -> set[str]:
        return {clip.id[0] for clip in YTClean(root=yt_clean, **arguments).clips(split)}

    assert videos("train") | videos("val") == set("abcdefghijk")  # l was not downloaded
    assert not videos("train") & videos("val")
    assert 1 <= len(videos("val")) <= 2
    assert videos("val", validation="test") == set("xy")
    assert videos("train", validation="test") == set("abcdefghijk")
    with pytest.raises(UnknownNameError, match="Did you mean held_out"):
        YTClean(root=yt_clean, validation="heldout")


def test_yt_clean_names_what_is_wrong(yt_clean):
    assert list(YTClean.check(yt_clean)) == [f"{yt_clean}/frames/l is missing."]
    with pytest.raises(DataError, match=r"YT-Clean.train.2.lst is missing"):
        YTClean(root=yt_clean, fold=2).clips("train")
    (yt_clean / "frames" / "x" / "cipic_subj3" / "first.wav").write_bytes(b"")
    (yt_clean / "frames" / "x" / "cipic_subj3" / "second.wav").write_bytes(b"")
    with pytest.raises(DataError, match=r"first.wav is not named by the second"):
        YTClean(root=yt_clean).clips("test")
    (yt_clean / "YT-Clean.test.1.lst").write_text("../x\n")
    with pytest.raises(DataError, match=r"names no clip by '../x'"):
        YTClean(root=yt_clean).clips("test")
