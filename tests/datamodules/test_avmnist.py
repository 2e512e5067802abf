import gzip
import json
import os
import shutil
import time
from collections import Counter
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.avmnist import AVMNIST, IMAGES, LONGEST, RECORDINGS, SPEAKERS, make_pairs, order_of_audio
from datamodules.base import DEMO_RECORD, make_demo
from datamodules.batch import check_batch
from datamodules.idx import read_idx, write_idx
from zoo.core.errors import DataError, RecipeError, UnknownNameError

soundfile = pytest.importorskip("soundfile")

SPLITS = ("train", "val", "test", "predict")
IMAGES_PER_DIGIT = {"train": 240, "t10k": 100}


@pytest.fixture(scope="session")
def download(tmp_path_factory) -> Path:
    """All recordings, tiny and equal, and two small MNIST files whose images tell their row; laid out as downloaded."""
    root = tmp_path_factory.mktemp("avmnist")
    (root / RECORDINGS).mkdir(parents=True)
    write_wav(root / "one.wav", np.full(30, 0.5))
    for digit, speaker, recording in product(range(10), SPEAKERS["large"], range(50)):
        os.link(root / "one.wav", root / RECORDINGS / f"{digit}_{speaker}_{recording}.wav")
    (root / IMAGES).mkdir(parents=True)
    for file, per_digit in IMAGES_PER_DIGIT.items():
        labels = np.random.default_rng(0).permutation(np.repeat(np.arange(10, dtype=np.uint8), per_digit))
        images = np.zeros((len(labels), 28, 28), np.uint8)
        images[:, 0, 0], images[:, 0, 1] = np.divmod(np.arange(len(labels)), 256)
        images[:, 0, 2] = file == "t10k"
        write_idx(root / IMAGES / f"{file}-images-idx3-ubyte.gz", images)
        write_idx(root / IMAGES / f"{file}-labels-idx1-ubyte", labels)
    return root


@pytest.fixture(scope="session")
def demo(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("demo") / "avmnist"
    make_demo(AVMNIST, root, 60)
    return root


def image_rows(source) -> list[tuple[str, int]]:
    """File and row of each image of a source over `download`."""
    return [("t10k" if i[0, 2] else "train", int(i[0, 0]) * 256 + int(i[0, 1])) for i in source.images]


# -- which pairs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("pairing", "per_recording"), [("paper", 30), ("large", 60)])
def test_the_split_is_by_recording(download, pairing, per_recording):
    data = AVMNIST(root=download, pairing=pairing)
    for split, recordings in (("test", range(15)), ("val", range(15, 20)), ("train", range(20, 50))):
        pairs = data.source(split).pairs
        assert Counter(pair.recording for pair in pairs) == dict.fromkeys(recordings, per_recording)
        assert {pair.speaker for pair in pairs} == set(SPEAKERS[pairing])
        assert len({pair.id for pair in pairs}) == len(pairs)


def test_smil_has_1050_and_450_and_no_validation(download):
    data = AVMNIST(root=download, split="smil")
    assert [len(data.source(split)) for split in SPLITS] == [1050, 0, 450, 450]
    assert data.val_dataloader() == []


@pytest.mark.parametrize("pairing", ["paper", "large"])
def test_no_image_is_in_two_splits(download, pairing):
    data = AVMNIST(root=download, pairing=pairing)
    rows = [row for split in ("train", "val", "test") for row in image_rows(data.source(split))]
    assert len(rows) == len(set(rows)) == {"paper": 1500, "large": 3000}[pairing]


@pytest.mark.parametrize("split", ["train", "test"])
def test_images_are_a_digits_first_or_last_in_the_order_of_their_file(download, split):
    source = AVMNIST(root=download, split="smil").source(split)
    file = {"train": "train", "test": "t10k"}[split]
    labels = read_idx(download / IMAGES / f"{file}-labels-idx1-ubyte", 1)
    for digit in range(10):
        there = np.flatnonzero(labels == digit).tolist()
        expected = there[:105] if split == "train" else there[-45:]
        digits = (pair.digit for pair in source.pairs)
        assert [row for row, d in zip(image_rows(source), digits, strict=True) if d == digit] == [
            (file, row) for row in expected
        ]


def test_both_splittings_have_the_same_pairs(download):
    of_paper, of_smil = ({}, {})
    for split, found in (("train_val_test", of_paper), ("smil", of_smil)):
        data = AVMNIST(root=download, split=split)
        for source in map(data.source, ("train", "val", "test")):
            found |= {pair.id: row for pair, row in zip(source.pairs, image_rows(source), strict=True)}
    assert of_paper == of_smil


@settings(max_examples=50, deadline=None)
@given(count=st.integers(10, 4000), speakers=st.sampled_from(list(SPEAKERS.values())))
def test_any_number_of_pairs_is_split_by_recording(count, speakers):
    pairs = make_pairs(count, speakers)
    sizes = Counter(pair.part for pair in pairs)
    assert len({pair.id for pair in pairs}) == sizes.total() == count
    assert abs(sizes["test"] - 0.3 * count) < 1
    assert abs(sizes["val"] - 0.1 * count) < 1
    parts = [{pair.recording for pair in pairs if pair.part == part} for part in ("test", "val", "train")]
    assert all(max(first) < min(second) for first, second in pairwise(parts))


def test_the_packed_and_the_unpacked_idx_file_give_the_same(copy):
    before = AVMNIST(root=copy).source("test").images
    for packed in (copy / IMAGES).glob("*.gz"):
        packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
        packed.unlink()
    np.testing.assert_array_equal(AVMNIST(root=copy).source("test").images, before)


# -- samples and batches -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", SPLITS)
def test_batches_keep_the_contract(demo, split):
    data = AVMNIST(root=demo, batch_size=7, audio_share=0.5)
    for batch in data.loader(split):
        check_batch(batch, AVMNIST.task, predict=split == "predict")
    assert data.num_classes == 10


def test_a_sample_is_what_its_files_hold(copy):
    source = AVMNIST(root=copy).source("train")
    sample = source.load(5, None)
    waveform, rate = soundfile.read(copy / RECORDINGS / f"{sample['id']}.wav", dtype="float32")
    torch.testing.assert_close(sample["modalities"]["audio"], torch.from_numpy(waveform))
    assert sample["sample_rate"]["audio"] == rate
    assert sample["id"].startswith(f"{sample['label']}_")
    images = read_idx(copy / IMAGES / "train-images-idx3-ubyte.gz", 3)
    labels = read_idx(copy / IMAGES / "train-labels-idx1-ubyte.gz", 1)
    row = 6 + 5  # the validation images come first
    assert labels[row] == sample["label"]
    torch.testing.assert_close(sample["modalities"]["image"], torch.tensor(images[row]).float()[None] / 255)


def test_the_longest_recording_fits_into_the_front_end():
    frames = [1 + len(range(0, length, 3)) // 512 for length in (LONGEST, LONGEST + 1)]
    assert frames == [20, 21]


# -- scarce audio ------------------------------------------------------------------------------------------------------


def heard(root: Path, share: float, **options) -> list:
    source = AVMNIST(root=root, audio_share=share, **options).source("train")
    return [source.pairs[index] for index in source.heard]


def test_meta_pairs_are_heard_evenly_spread_and_kept_from_training(download):
    options = {"root": download, "audio_share": 0.2}
    whole = AVMNIST(**options).source("train")
    data = AVMNIST(meta_share=1 / 6, **options)
    meta, rest = data.source("meta"), data.source("train")
    assert (len(meta), len(rest)) == (30, len(whole) - 30)
    assert {pair.id for pair in meta.pairs} | {pair.id for pair in rest.pairs} == {pair.id for pair in whole.pairs}
    assert {*Counter(pair.digit for pair in meta.pairs).values()} == {3}
    assert meta.heard == frozenset(range(30))
    heard = {source.pairs[index].id for source in (meta, rest) for index in source.heard}
    assert heard == {whole.pairs[index].id for index in whole.heard}
    rows = {pair.id: row for source in (meta, rest) for pair, row in zip(source.pairs, image_rows(source), strict=True)}
    assert rows == {pair.id: row for pair, row in zip(whole.pairs, image_rows(whole), strict=True)}


@pytest.mark.parametrize(("share", "count"), [(0.05, 45), (0.1, 90), (0.15, 135), (0.2, 180), (1.0, 900), (0.0, 0)])
def test_audio_share_is_spread_evenly(download, share, count):
    pairs = heard(download, share)
    assert len(pairs) == count
    for key, values in (
        (lambda pair: pair.digit, range(10)),
        (lambda pair: pair.speaker, SPEAKERS["paper"]),
        (lambda pair: (pair.digit, pair.speaker), list(product(range(10), SPEAKERS["paper"]))),
    ):
        counts = [Counter(map(key, pairs))[value] for value in values]
        assert max(counts) - min(counts) <= 1


def test_with_six_speakers_audio_is_spread_evenly_too():
    pairs = [pair for pair in make_pairs(3000, SPEAKERS["large"]) if pair.part == "train"]
    order = order_of_audio(pairs, seed=0)
    assert sorted(order) == list(range(1800))
    for end in range(1, 200):
        cells = Counter((pairs[index].digit, pairs[index].speaker) for index in order[:end])
        assert max(cells.values()) - (min(cells.values()) if len(cells) == 60 else 0) <= 1


def test_a_smaller_share_is_part_of_a_larger_one(download):
    sets = [set(heard(download, share, split="smil")) for share in (0.05, 0.1, 0.15, 0.2, 1.0)]
    assert [len(chosen) for chosen in sets] == [52, 105, 158, 210, 1050]
    assert all(small < large for small, large in pairwise(sets))


def test_the_seed_decides_whose_audio_is_heard(download, monkeypatch):
    data = AVMNIST(root=download, audio_share=0.2)
    first = data.source("train").heard
    monkeypatch.setenv("PL_GLOBAL_SEED", "1")
    second = data.source("train").heard
    assert len(first & second) < len(first)
    pairs = data.source("train").pairs
    extra = [
        Counter(f"{pairs[i].digit} {pairs[i].speaker}" for i in order_of_audio(pairs, seed)[:45]) for seed in (0, 1)
    ]
    assert extra[0] != extra[1]
    assert AVMNIST(root=download, audio_share=0.2).source("train").heard == second


def test_absent_audio_is_one_silent_sample_and_its_file_is_not_read(copy):
    data = AVMNIST(root=copy, audio_share=0.5, batch_size=99)
    batch = next(iter(data.pass_loader("train")))
    present = batch["present"]["audio"]
    assert present.sum() == 18
    assert batch["present"]["image"].all()
    assert (batch["lengths"]["audio"][~present] == 1).all()
    assert (batch["lengths"]["audio"][present] > 1).all()
    assert not batch["modalities"]["audio"][~present].any()
    for name, there in zip(batch["id"], present, strict=True):
        if not there:
            (copy / RECORDINGS / f"{name}.wav").write_bytes(b"")
    next(iter(data.pass_loader("train")))


@pytest.mark.parametrize("split", ["val", "test", "predict"])
def test_evaluation_hears_everything(demo, split):
    source = AVMNIST(root=demo, audio_share=0.0).source(split)
    assert all(source.load(index, None)["present"]["audio"] for index in range(len(source)))


# -- what is wrong with a copy -----------------------------------------------------------------------------------------


def write_wav(path: Path, sound, rate: int = 8000, subtype: str = "PCM_16") -> None:
    soundfile.write(path, np.asarray(sound), rate, subtype)


BROKEN_WAVS = {
    "16000 Hz": lambda path: write_wav(path, np.zeros(100), rate=16000),
    "2 channels": lambda path: write_wav(path, np.zeros((100, 2))),
    "has 0 samples": lambda path: write_wav(path, np.zeros(0)),
    "30,718 samples": lambda path: write_wav(path, np.zeros(LONGEST + 1)),
    "are no numbers": lambda path: write_wav(path, [0.0, np.nan], subtype="FLOAT"),
    r"outside \[-1, 1\]": lambda path: write_wav(path, [0.0, 1.5], subtype="FLOAT"),
    "is cut: 300 of": lambda path: path.write_bytes(path.read_bytes()[:300]),
    "cannot be read": lambda path: path.write_bytes(path.read_bytes()[:8] + b"WAVE" + b"\xff" * path.stat().st_size),
    "not a WAV file": lambda path: path.write_bytes(b""),
    "not a WAV file.": lambda path: path.write_bytes(b"<html>404 Not Found</html>"),
}


@pytest.mark.parametrize("what", BROKEN_WAVS)
def test_a_broken_recording_is_named(copy, what):
    path = copy / RECORDINGS / "3_jackson_0.wav"
    BROKEN_WAVS[what](path)
    source = AVMNIST(root=copy).source("test")
    index = [pair.id for pair in source.pairs].index("3_jackson_0")
    with pytest.raises(DataError, match=what) as caught:
        source.load(index, None)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(AVMNIST.check(copy)) == [str(caught.value)]


def _rewrite(path: Path, change) -> None:
    write_idx(path, change(read_idx(path, 3 if "images" in path.name else 1)))


BROKEN_IDX = {
    "18 images, but .* has 17 labels": ("labels", lambda path: _rewrite(path, lambda labels: labels[:-1])),
    "has a label 10": ("labels", lambda path: _rewrite(path, lambda labels: np.maximum(labels, 10))),
    "0 images of the digit 0; 2 are needed": ("labels", lambda path: _rewrite(path, lambda labels: labels * 0 + 1)),
    "27×28 pixels": ("images", lambda path: _rewrite(path, lambda images: images[:, 1:])),
    "1 axes instead of 3": ("images", lambda path: write_idx(path, np.zeros(4, np.uint8))),
    "cannot be read": ("images", lambda path: path.write_bytes(path.read_bytes()[:-20])),
}


@pytest.mark.parametrize("what", BROKEN_IDX)
def test_a_broken_idx_file_is_named(copy, what):
    kind, damage = BROKEN_IDX[what]
    path = next((copy / IMAGES).glob(f"t10k-{kind}-*"))
    damage(path)
    with pytest.raises(DataError, match=what) as caught:
        AVMNIST(root=copy).source("test")
    assert str(path) in str(caught.value)
    assert list(AVMNIST.check(copy)) == [str(caught.value)]


def test_missing_files_are_counted_and_never_mean_a_smaller_data_set(download, tmp_path):
    root = tmp_path / "partial"
    shutil.copytree(download, root, copy_function=os.link)
    gone = [root / RECORDINGS / f"{digit}_theo_49.wav" for digit in range(10)]
    for path in gone:
        path.unlink()
    with pytest.raises(DataError, match=r"10 of 1,504 files .*\(first: .*0_theo_49\.wav\).*zoo data check avmnist"):
        AVMNIST(root=root).source("test")
    next((root / IMAGES).glob("train-labels*")).unlink()
    with pytest.raises(DataError, match=r"11 of 1,504 files .*first: .*train-labels-idx1-ubyte\[\.gz\]"):
        AVMNIST(root=root).source("test")
    assert sorted(AVMNIST.check(root)) == sorted(
        f"{path} is missing." for path in (*gone, root / IMAGES / "train-labels-idx1-ubyte[.gz]")
    )


def test_check_finds_nothing_in_a_whole_copy_and_the_folder_if_that_is_missing(demo, download, tmp_path):
    assert not list(AVMNIST.check(demo))
    assert not list(AVMNIST.check(download))
    assert list(AVMNIST.check(tmp_path / "nowhere")) == [f"{tmp_path / 'nowhere'} is missing."]


@pytest.mark.parametrize(
    "record",
    ["", "[" * 100_000, "[]", '{"samples": 60}', '{"data_module": "other", "samples": 60}']
    + [json.dumps({"data_module": "avmnist", "samples": samples}) for samples in (True, "60", 1e308, -1, 10**12)],
)
def test_a_broken_demo_record_is_named(copy, record):
    (copy / DEMO_RECORD).write_text(record)
    with pytest.raises(DataError, match=DEMO_RECORD) as caught:
        AVMNIST(root=copy).source("test")
    assert list(AVMNIST.check(copy)) == [str(caught.value)]


def test_wrong_options_are_refused():
    with pytest.raises(UnknownNameError, match="Did you mean paper"):
        AVMNIST(pairing="papr")
    with pytest.raises(UnknownNameError, match="Did you mean smil"):
        AVMNIST(split="small")
    for share in (20, -0.1, float("nan")):
        with pytest.raises(RecipeError, match="audio_share"):
            AVMNIST(audio_share=share)
        with pytest.raises(RecipeError, match="meta_share"):
            AVMNIST(meta_share=share)


# -- the demo ----------------------------------------------------------------------------------------------------------


def files(root: Path) -> dict[Path, bytes]:
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_equal_demos_have_equal_bytes(demo, tmp_path):
    make_demo(AVMNIST, tmp_path / "again", 60)
    assert files(tmp_path / "again") == files(demo)


@pytest.mark.parametrize("samples", [10, 47, 200])
def test_a_demo_of_any_size_has_all_splits(tmp_path, samples):
    data = AVMNIST(root=tmp_path / "demo", demo=samples, pairing="large")
    data.prepare_data()
    sizes = [len(data.source(split)) for split in ("train", "val", "test")]
    assert sum(sizes) == samples
    assert min(sizes) >= 1


def test_too_small_a_demo_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="from 10"):
        AVMNIST(root=tmp_path / "demo", demo=9).prepare_data()


def accuracy_of_a_linear_classifier(train, test) -> float:
    """Ridge regression on the classes."""
    (x, y), (tests, labels) = train, test
    mean, scale = x.mean(0), x.std() + 1e-6
    x, tests = (np.c_[(z - mean) / scale, np.ones(len(z))] for z in (x, tests))
    dual = np.linalg.solve(x @ x.T + 0.1 * x.shape[1] * np.eye(len(x)), np.eye(10)[y])
    return float(((tests @ (x.T @ dual)).argmax(1) == labels).mean())


def test_the_demo_is_neither_hopeless_nor_trivial_and_quickly_written(tmp_path):
    data = AVMNIST(root=tmp_path / "demo", demo=300, batch_size=300)
    began = time.process_time()
    data.prepare_data()
    assert time.process_time() - began < 8  # 1 to 2 s where nothing else runs
    sets: dict[str, list] = {"image": [], "audio": []}
    for split in ("train", "test"):
        batch = next(iter(data.pass_loader(split)))
        spectra = [
            np.log(1e-3 + np.abs(np.fft.rfft(wave[: length - length % 4].reshape(4, -1), 128))).ravel()
            for wave, length in zip(batch["modalities"]["audio"].numpy(), batch["lengths"]["audio"], strict=True)
        ]
        sets["image"].append((batch["modalities"]["image"].flatten(1).numpy(), batch["label"].numpy()))
        sets["audio"].append((np.array(spectra), batch["label"].numpy()))
    for modality, (train, test) in sets.items():
        assert 0.4 < accuracy_of_a_linear_classifier(train, test) < 0.99, modality


def test_test_samples_are_drawn_from_other_seeds(tmp_path):
    from datamodules.avmnist import Pair
    from datamodules.demo.avmnist import write_demo

    for part in ("train", "test"):
        write_demo(tmp_path / part, [Pair(3, "theo", 0, "train"), Pair(3, "theo", 1, "test"), Pair(3, "theo", 2, part)])
    assert (
        files(tmp_path / "train")[RECORDINGS / "3_theo_2.wav"] != files(tmp_path / "test")[RECORDINGS / "3_theo_2.wav"]
    )


# -- the real data -----------------------------------------------------------------------------------------------------


def test_the_real_data_are_whole():
    root = Path(os.environ.get("ZOO_TEST_DATA", "/nonexistent"))
    if not (root / RECORDINGS).is_dir() or not (root / IMAGES).is_dir():
        pytest.skip("ZOO_TEST_DATA names no folder with MNIST and free-spoken-digit-dataset")
    assert not list(AVMNIST.check(root))
    data = AVMNIST(root=root, batch_size=500)
    assert [len(data.source(split)) for split in ("train", "val", "test")] == [900, 150, 450]
    batch = next(iter(data.loader("test")))
    check_batch(batch, AVMNIST.task)
    assert batch["label"].bincount().tolist() == [45] * 10
    images = [image.tobytes() for split in ("train", "val", "test") for image in data.source(split).images]
    assert len(set(images)) == 1500
