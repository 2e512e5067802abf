import shutil
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.base import make_demo
from datamodules.batch import check_batch
from datamodules.binaural.fairplay import FAIRPlay, MUSICStereo, read_list
from datamodules.binaural.yt_clean import YTClean
from datamodules.registry import catalogue
from tests.support.clips import noise, write_fairplay, write_frames, write_video, write_wav
from zoo.core.errors import DataError, RecipeError, UnknownNameError

SIZE = (14, 28)
SMALL = {"frame_size": SIZE, "window": 0.2, "hop": 0.05}


@pytest.fixture
def root(tmp_path) -> Path:
    return write_fairplay(tmp_path / "FAIR-Play")


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("demo") / "fairplay"
    make_demo(FAIRPlay, root, 20)
    return root


def message_of(data: FAIRPlay, split: str = "train", augment: bool = False) -> str:
    with pytest.raises(DataError) as caught:
        list(data.loader(split, augment=augment))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("cls", [FAIRPlay, MUSICStereo, YTClean])
def test_they_are_registered_with_their_task(cls):
    entry = catalogue.entry(cls.name)
    assert entry.load() is cls
    assert entry.facts["task"] == cls.task


# -- batches -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [FAIRPlay, MUSICStereo, YTClean])
def test_demos_keep_the_contract_and_are_whole(cls, tmp_path):
    root = tmp_path / cls.name
    make_demo(cls, root, 10)
    seen: dict[str, list[str]] = {}
    for split in ("train", "val", "test", "predict"):
        for batch in cls(root=root, batch_size=3, frame_size=SIZE).loader(split, augment=split == "train"):
            check_batch(batch, cls.task, predict=split == "predict")
            seen.setdefault(split, []).extend(batch["id"])
    assert seen["predict"] == seen["test"]
    assert not {*seen["train"]} & {*seen["val"], *seen["test"]}
    assert not {*seen["val"]} & {*seen["test"]}
    assert list(cls.check(root)) == []


def test_both_kinds_of_splits_and_missing_folds(demo):
    of_kind = [[clip.id for clip in FAIRPlay(root=demo, splits=kind).clips("train")] for kind in ("clean", "original")]
    assert of_kind[0] == of_kind[1] == [f"{number:06d}" for number in range(1, 15)]
    with pytest.raises(DataError, match=r"split2/train.txt is missing"):
        FAIRPlay(root=demo, fold=2).clips("train")
    with pytest.raises(RecipeError, match=r"data.fold is 6; the clean splits have folds 1 to 5"):
        FAIRPlay(root=demo, fold=6)
    with pytest.raises(UnknownNameError, match="Did you mean clean"):
        FAIRPlay(root=demo, splits="clen")


def test_a_training_sample_is_a_window_with_its_frame_and_the_one_before(root):
    data = FAIRPlay(root=root, batch_size=3, **SMALL)
    (batch,) = data.loader("train", augment=True)
    assert batch["stereo"].shape == (3, 2, 3200)
    assert torch.equal(batch["modalities"]["audio"], batch["stereo"].sum(1))
    assert batch["window_start"].tolist() == [[0]] * 3
    assert batch["window_frame"].tolist() == [[1]] * 3
    assert torch.equal(batch["frame_number"][:, 1], batch["frame_number"][:, 0] + 1)
    for row in range(3):
        whole = torch.from_numpy(noise(2, 16_000, seed=row))
        windows = whole.unfold(1, 3200, 1).transpose(0, 1)
        (start,) = (windows == batch["stereo"][row]).all((1, 2)).nonzero().flatten().tolist()
        assert abs((start / 16_000 + 0.1 + 0.1) * 10 - batch["frame_number"][row, 1]) <= 0.5
        # Frames are grey, as bright as their number; brightness is drawn for each by itself.
        shown = batch["modalities"]["video"][row].mean((1, 2, 3)) * 255 / (2 * batch["frame_number"][row])
        assert ((shown > 0.6) & (shown < 1.4)).all()


def test_augmentation_is_a_rule_of_epoch_and_index_and_no_augmentation_is_the_middle(root):
    def batch_of(epoch: int, augment: bool = True) -> dict:
        return next(iter(FAIRPlay(root=root, batch_size=3, **SMALL).pass_loader("train", augment, epoch)))

    first, again, later = batch_of(0), batch_of(0), batch_of(1)
    for key in ("stereo", "frame_number"):
        assert torch.equal(first[key], again[key])
    assert torch.equal(first["modalities"]["video"], again["modalities"]["video"])
    assert not torch.equal(first["stereo"], later["stereo"])
    plain = batch_of(0, augment=False)
    assert torch.equal(plain["stereo"][0], torch.from_numpy(noise(2, 16_000)[:, 6400:9600]))
    assert plain["frame_number"].tolist() == [[5, 6]] * 3


def test_evaluation_gives_whole_clips_each_with_its_distinct_frames(root):
    data = FAIRPlay(root=root, batch_size=32, **SMALL)
    batches = list(data.loader("test"))
    assert [batch["id"] for batch in batches] == [["000001"], ["000002"], ["000003"]]
    batch = batches[1]
    assert torch.equal(batch["stereo"][0], torch.from_numpy(noise(2, 16_000, seed=1)))
    assert batch["window_start"][0].tolist() == list(range(0, 12_801, 800))
    numbers = batch["frame_number"][0]
    assert numbers.tolist() == sorted(set(numbers.tolist()))
    centres = (batch["window_start"][0] + 1600) / 16_000 + 0.1
    assert (numbers[batch["window_frame"][0]] - 10 * centres).abs().max() <= 0.5 + 1e-4
    shown = batch["modalities"]["video"][0].mean((1, 2, 3)) * 255
    torch.testing.assert_close(shown, 2.0 * numbers, atol=0.01, rtol=0)


def test_the_protocol_of_mono2binaural_ends_with_the_clip_and_sees_whole_frames(root):
    data = FAIRPlay(root=root, protocol="mono2binaural", frame_size=SIZE)
    batch = next(iter(data.loader("test")))
    assert batch["window_start"][0].tolist() == [*range(0, 5920, 800), 5920]
    assert batch["modalities"]["video"].shape[-2:] == SIZE


def test_frames_are_decoded_from_videos_where_none_were_extracted(root):
    extracted = next(iter(FAIRPlay(root=root, **SMALL).loader("test")))
    shutil.rmtree(root / "frames")
    for name in ("000001", "000002", "000003"):
        write_video(root / "videos" / f"{name}.mp4", seconds=1, rate=10)
    decoded = next(iter(FAIRPlay(root=root, **SMALL).loader("test")))
    assert torch.equal(decoded["frame_number"], extracted["frame_number"])
    # ffmpeg's first frame is number 1, and the video's is black.
    difference = extracted["modalities"]["video"] - decoded["modalities"]["video"]
    torch.testing.assert_close(difference * 255, torch.full_like(difference, 2.0), atol=1.01, rtol=0)


def test_clips_of_another_rate_are_heard_at_16_khz_from_a_cache(tmp_path):
    root = write_fairplay(tmp_path / "FAIR-Play", rate=48_000)
    data = FAIRPlay(root=root, batch_size=3, **SMALL)
    (training,), (clip, *_) = data.loader("train", augment=True), data.loader("test")
    assert training["sample_rate"] == clip["sample_rate"] == {"audio": 16_000}
    assert training["stereo"].shape == (3, 2, 3200)
    assert clip["stereo"].shape == (1, 2, 16_000)
    assert len(list((root / "sound_16khz").glob("*.wav"))) == 3
    elsewhere = tmp_path / "elsewhere"
    list(FAIRPlay(root=root, cache=elsewhere, **SMALL).loader("test"))
    assert len(list(elsewhere.glob("*.wav"))) == 3


def test_music_stereo_has_lists_of_its_own_in_fairplays_layout(root):
    with pytest.raises(DataError, match=r"splits/train\.txt is missing"):
        MUSICStereo(root=root, **SMALL).clips("train")
    (root / "splits").mkdir()
    for part in ("train", "val", "test"):
        (root / "splits" / f"{part}.txt").write_text("000001\n000003.wav\n")
    assert [clip.id for clip in MUSICStereo(root=root, **SMALL).clips("train")] == ["000001", "000003"]
    assert list(MUSICStereo.check(root)) == []


# -- bad files ---------------------------------------------------------------------------------------------------------


def test_digital_silence_is_no_error(root):
    write_wav(root / "binaural_audios" / "000001.wav", np.zeros((2, 16_000), np.float32))
    for split in ("train", "test"):
        batch = next(iter(FAIRPlay(root=root, batch_size=3, **SMALL).loader(split)))
        assert not batch["stereo"][0].any()


def test_a_clip_shorter_than_a_window_can_be_evaluated_but_not_trained_on(root):
    write_wav(root / "binaural_audios" / "000002.wav", noise(2, 3000))
    said = message_of(FAIRPlay(root=root, batch_size=3, **SMALL))
    assert "000002.wav lasts 0.19 s, a training window 0.20 s." in said
    skipping = FAIRPlay(root=root, batch_size=3, on_bad_file="skip", **SMALL)
    with pytest.warns(UserWarning, match="Another sample takes its place"):
        (batch,) = skipping.loader("train", replace=True)
    assert set(batch["id"]) == {"000001", "000003"}
    _, batch, _ = FAIRPlay(root=root, **SMALL).loader("test")
    assert batch["window_start"].tolist() == [[0]]
    assert batch["stereo"].shape[-1] == 3000
    write_wav(root / "binaural_audios" / "000002.wav", noise(2, 1000))
    assert "000002.wav has 1,000 samples at 16 kHz; 1,025 are the least" in message_of(
        FAIRPlay(root=root, **SMALL), "test"
    )


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_mono_file_where_two_ears_are_needed_is_named(root, split):
    write_wav(root / "binaural_audios" / "000001.wav", noise(1, 16_000))
    said = message_of(FAIRPlay(root=root, **SMALL), split)
    assert "000001.wav has 1 channel; the sound of both ears, two, is needed here." in said


def test_a_mono_file_is_predicted(root):
    write_wav(root / "binaural_audios" / "000001.wav", noise(1, 16_000))
    batch = next(iter(FAIRPlay(root=root, **SMALL).loader("predict")))
    assert torch.equal(batch["modalities"]["audio"], 2 * torch.from_numpy(noise(1, 16_000)))


def test_a_missing_frame_is_named(root):
    (root / "frames" / "000001.mp4" / "000006.png").unlink()
    assert "000001.mp4/000006.png is missing." in message_of(FAIRPlay(root=root, **SMALL), "test")


def test_a_sound_that_goes_on_after_the_last_frame_is_an_error_of_that_frame(root):
    shutil.rmtree(root / "frames" / "000001.mp4")
    write_frames(root / "frames" / "000001.mp4", 5)
    assert "000001.mp4/000006.png is missing." in message_of(FAIRPlay(root=root, **SMALL), "test")


def test_a_cut_video_is_named(root):
    shutil.rmtree(root / "frames" / "000001.mp4")
    path = write_video(root / "videos" / "000001.mp4", seconds=1)
    path.write_bytes(path.read_bytes()[:700])
    assert "000001.mp4 cannot be read" in message_of(FAIRPlay(root=root, **SMALL), "test")


def test_missing_clips_are_counted_before_anything_is_read(root):
    (root / "binaural_audios" / "000002.wav").unlink()
    shutil.rmtree(root / "frames" / "000003.mp4")
    said = message_of(FAIRPlay(root=root, **SMALL))
    assert said.startswith("FAIRPlay: 2 of 6 sounds and pictures of the split train are missing under ")
    assert "(first: binaural_audios/000002.wav). `zoo data check fairplay " in said


def test_check_names_every_broken_file(root):
    write_frames(root / "frames" / "000001.mp4", 12)
    assert list(FAIRPlay.check(root)) == []
    (root / "frames" / "000001.mp4" / "000005.png").unlink()
    (root / "frames" / "000001.mp4" / "000006.png").write_bytes(b"no picture")
    write_wav(root / "binaural_audios" / "000002.wav", noise(1, 16_000))
    (root / "binaural_audios" / "000003.wav").unlink()
    (root / "five_splits" / "split1" / "val.txt").write_text("")
    found = list(FAIRPlay.check(root))
    wanted = [
        "val.txt lists no clips",
        "000005.png is missing",
        "000006.png is no PNG",
        "000002.wav has 1",
        "000003.wav is",
    ]
    assert len(found) == len(wanted)
    for part, line in zip(wanted, found, strict=True):
        assert part in line
    assert list(FAIRPlay.check(root / "nothing")) == [f"{root / 'nothing'} holds no lists of clips."]


# -- lists -------------------------------------------------------------------------------------------------------------


def write_h5(path: Path, entries: list, name: str = "audio") -> Path:
    with h5py.File(path, "w") as file:
        file[name] = entries
    return path


@pytest.mark.parametrize("kind", [bytes, str])
def test_only_the_last_component_of_a_path_counts(kind, tmp_path):
    entries = ["/their/machine/000001.wav", "../../../etc/000002.mp3", "C:\\data\\000003.wav", "000004.mp4"]
    path = write_h5(tmp_path / "train.h5", [entry.encode() if kind is bytes else entry for entry in entries])
    assert read_list(path) == ["000001", "000002", "000003", "000004"]


HOSTILE = {
    "no hdf5": (lambda path: path.write_bytes(b"no HDF5 at all"), "cannot be read"),
    "missing": (lambda path: None, "is missing"),
    "other name": (lambda path: write_h5(path, [b"a.wav"], "sound"), "holds no list of paths named 'audio'"),
    "numbers": (lambda path: write_h5(path, [1, 2]), "holds no list of paths"),
    "table": (lambda path: write_h5(path, [[b"a.wav"]]), "holds no list of paths"),
    "a folder": (lambda path: write_h5(path, [b"/etc/.."]), "names no clip by '.'"),
    "a hidden sign": (lambda path: write_h5(path, [b"a\x07b.wav"]), "names no clip by"),
    "not text": (lambda path: write_h5(path, [b"\xff\xfe.wav"]), "cannot be read"),
    "twice": (lambda path: write_h5(path, [b"x/a.wav", b"y/a.wav"]), "lists a twice"),
    "nothing": (lambda path: h5py.File(path, "w").create_dataset("audio", (0,), "S8").file.close(), "lists no clips"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_broken_list_is_named(what, tmp_path):
    path = tmp_path / "train.h5"
    write, message = HOSTILE[what]
    write(path)
    with pytest.raises(DataError, match=rf"train.h5 {message}") as caught:
        read_list(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("link", ["external", "soft", "virtual"])
def test_a_list_that_leads_into_another_file_is_refused(link, tmp_path):
    secret, path = write_h5(tmp_path / "secret.h5", [b"a.wav"]), tmp_path / "train.h5"
    with h5py.File(path, "w") as file:
        if link == "external":
            file["audio"] = h5py.ExternalLink(str(secret), "audio")
        elif link == "soft":
            file["audio"] = h5py.SoftLink("/elsewhere")
        else:
            layout = h5py.VirtualLayout((1,), "S5")
            layout[:] = h5py.VirtualSource(str(secret), "audio", (1,), "S5")
            file.create_virtual_dataset("audio", layout)
    with pytest.raises(DataError, match=r"train.h5 holds no list of paths"):
        read_list(path)


def test_a_split_that_names_a_clip_that_is_not_there_is_refused(root):
    (root / "five_splits" / "split1" / "test.txt").write_text("000001.mp3\n../../etc/passwd\n")
    said = message_of(FAIRPlay(root=root, **SMALL), "test")
    assert "2 of 4 sounds and pictures of the split test are missing" in said
    assert "first: binaural_audios/passwd.wav" in said


def test_settings_that_cannot_be_carried_out_are_refused():
    for wrong in ({"window": 1.5}, {"window": 0}, {"hop": 0}, {"hop": 0.7}, {"frame_size": (0, 4)}):
        with pytest.raises(RecipeError, match=f"data.{next(iter(wrong))} is"):
            FAIRPlay(root="x", **wrong).cutting  # noqa: B018
    with pytest.raises(UnknownNameError, match="Did you mean mono2binaural"):
        FAIRPlay(root="x", protocol="mono2binoral")
    data = FAIRPlay(root="x")
    data.trainer = SimpleNamespace(lightning_module=SimpleNamespace(window=24_000))
    with pytest.raises(RecipeError, match=r"data\.window is 1\.5 s, which is model\.window; it is more than 0"):
        data.cutting  # noqa: B018


# -- the demo ----------------------------------------------------------------------------------------------------------


def test_in_the_demo_the_louder_side_is_that_of_the_coloured_things(demo):
    """Where one player is alone, the picture tells the sign of the level difference."""
    right = total = 0
    for clip in FAIRPlay(root=demo).clips("train"):
        stereo = clip.sound.read()
        level = 10 * np.log10((stereo[0] ** 2).mean() / (stereo[1] ** 2).mean())
        (picture,) = clip.frames.read([10])
        pixels = np.asarray(picture, float)
        colourful = (pixels.max(2) - pixels.min(2) > 100).any(0).nonzero()[0]
        if np.ptp(colourful) < 40 and abs(level) > 1:
            total += 1
            right += (colourful.mean() < 63.5) == (level > 0)
    assert total >= 4
    assert right == total


def test_equal_demos_are_equal_and_splits_differ(demo, tmp_path):
    make_demo(FAIRPlay, tmp_path / "again", 20)
    for path in ("binaural_audios/000001.wav", "frames/000003.mp4/000007.png"):
        assert (demo / path).read_bytes() == (tmp_path / "again" / path).read_bytes()
    sounds = {path.read_bytes() for path in (demo / "binaural_audios").iterdir()}
    assert len(sounds) == 20
    assert Image.open(demo / "frames" / "000001.mp4" / "000001.png").size == (128, 64)
    with pytest.raises(RecipeError, match="at least 10 samples"):
        make_demo(FAIRPlay, tmp_path / "few", 9)


def test_checkpoints_are_selected_on_the_validation_split_unless_one_says_otherwise(demo):
    chosen = {
        split: FAIRPlay(root=demo, frame_size=SIZE, validation=split).val_dataloader().dataset.source.clips
        for split in ("val", "test")
    }
    data = FAIRPlay(root=demo, frame_size=SIZE)
    assert data.val_dataloader().dataset.source.clips == chosen["val"] == data.clips("val")
    assert chosen["test"] == data.clips("test") != chosen["val"]
    with pytest.raises(RecipeError, match=r"data\.validation"):
        FAIRPlay(root=demo, validation="train")
