import csv
import logging
import os
import shutil
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from datamodules.av_folder import AVFolder
from datamodules.avmnist import AVMNIST, LONGEST
from datamodules.base import make_demo
from datamodules.batch import check_batch
from datamodules.demo.avmnist import draw_digit, speak_digit
from datamodules.media import read_image, read_sound
from datamodules.own_data import DEMO_CLASSES
from datamodules.registry import catalogue
from datamodules.sample_list import Row, class_names, split_rows
from zoo.core.errors import DataError, RecipeError

soundfile = pytest.importorskip("soundfile")

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("own") / "demo"
    make_demo(AVFolder, root, 60)
    return root


@pytest.fixture
def few(tmp_path) -> Path:
    """Four images and four sounds, and no list."""
    root = tmp_path / "few"
    root.mkdir()
    for number in range(4):
        write_image(root / f"{number}.png", np.full((28, 28), number * 60, np.uint8))
        write_wav(root / f"{number}.wav", np.full(100 + number, number / 10))
    return root


def write_image(path: Path, pixels: np.ndarray, **options) -> None:
    Image.fromarray(pixels).save(path, **options)


def write_wav(path: Path, sound, rate: int = 8000, subtype: str = "PCM_16") -> None:
    soundfile.write(path, np.asarray(sound), rate, subtype)


def write_list(root: Path, *lines: str, header: str = "image,audio,label,split") -> Path:
    path = root / "samples.csv"
    path.write_text("\n".join([header, *lines, ""]), encoding="utf-8")
    return path


def problem_of(root: Path, split: str = "train") -> str:
    """The one line that a list ends in, before anything else is read."""
    data = AVFolder(root=root)
    with pytest.raises(DataError) as caught:
        data.num_classes, data.source(split)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_it_is_registered_with_its_task():
    entry = catalogue.entry(AVFolder.name)
    assert entry.load() is AVFolder
    assert entry.facts["task"] == AVFolder.task


# -- batches -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["train", "val", "test", "predict"])
def test_batches_keep_the_contract(demo, split):
    data = AVFolder(root=demo, batch_size=7)
    seen = 0
    for batch in data.loader(split):
        check_batch(batch, AVFolder.task)
        seen += len(batch["id"])
    assert seen == {"train": 36, "val": 6, "test": 18, "predict": 18}[split]


def test_batches_without_labels_keep_the_contract_of_prediction(few):
    (batch,) = AVFolder(root=few).loader("predict")
    check_batch(batch, AVFolder.task, predict=True)
    assert "label" not in batch


def test_a_sample_is_what_its_files_hold_and_an_empty_cell_is_absent(few):
    write_list(few, "2.png,1.wav,b,train", "3.png,,a,train", ",0.wav,a,train", "1.png,2.wav,b,test")
    data = AVFolder(csv=few / "samples.csv", batch_size=3)
    batch = next(iter(data.pass_loader("train")))
    assert batch["id"] == ["2", "3", "0"]
    assert batch["label"].tolist() == [1, 0, 0]
    assert (data.classes, data.num_classes) == (("a", "b"), 2)
    assert batch["present"]["image"].tolist() == [True, True, False]
    assert batch["present"]["audio"].tolist() == [True, False, True]
    assert batch["lengths"]["audio"].tolist() == [101, 1, 100]
    torch.testing.assert_close(batch["modalities"]["image"][:2, 0, 0, 0], torch.tensor([120, 180]) / 255)
    torch.testing.assert_close(batch["modalities"]["audio"][0], torch.full((101,), 0.1), atol=1e-4, rtol=0)


# -- the list ----------------------------------------------------------------------------------------------------------


HOSTILE = {
    "out of the root": ("../few/0.png,,a,train", "'../few/0.png' is no relative path that stays inside"),
    "absolute": ("/etc/passwd,,a,train", "'/etc/passwd' is no relative path"),
    "inner dots": ("x/../0.png,,a,train", "'x/../0.png' is no relative path"),
    "zero byte": ("0\0.png,,a,train", "no relative path|line contains NUL"),
    "too long": (f"{'x' * 5000}.png,,a,train", "1 of 3 files are missing"),
    "link": ("link.png,,a,train", "'link.png' is no relative path .* links followed"),
    "circle": ("circle/a.png,,a,train", "no relative path|1 of 2 files are missing"),
    "nothing": (",,a,train", "line 3 has neither image nor audio"),
    "no label": ("0.png,0.wav,,train", "line 3 has no label"),
    "near split": ("0.png,0.wav,a,trian", "line 3: 'trian' is not a known split. Did you mean train?"),
    "no split": ("0.png,0.wav,a,", "line 3: '' is not a known split"),
    "same id": ("1.png,0.wav,a,train", "line 3 and line 2 have the same id '1'"),
    "cells": ("0.png,0.wav,a", "line 3 has 3 cells, the header has 4"),
    "more cells": ("0.png,0.wav,a,train,x", "line 3 has 5 cells, the header has 4"),
    "quote": ('"0.png,0.wav,a,train', "line 3: unexpected end of data"),
    "only tested": ("0.png,0.wav,c,test", "the class 'c' occurs in test, but not in train"),
    "missing": ("5.png,0.wav,a,train", r"1 of 4 files are missing under .* \(first: 5.png\)"),
    "folder": (".,,a,train", r"files are missing under .* \(first: \.\)"),
    "huge cell": (f"0.png,0.wav,{'9' * 200_000},train", "line 3: field larger than field limit"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_wrong_line_is_named(few, what):
    line, said = HOSTILE[what]
    (few.parent / "outside.png").write_bytes((few / "0.png").read_bytes())
    (few / "link.png").symlink_to("../outside.png")
    (few / "circle").symlink_to("circle")
    write_list(few, "1.png,1.wav,b,train", line)
    found = problem_of(few)
    assert pytest.raises(DataError, match=said).matches(DataError(found)), found
    assert "missing" in found or "samples.csv" in found


HEADERS = {
    "image,audio,lable,split": "has no column label; .* Did you mean lable?",
    "Image,audio,label,split": "has no column image; .* Did you mean Image?",
    "image;audio;label;split": "has no column image",
    "image,audio,label,spilt": "has a column 'spilt' that is not known. Did you mean split?",
    "image,audio,label,label": "names a column twice",
    "": "has no column image",
}


@pytest.mark.parametrize("header", HEADERS)
def test_a_wrong_header_is_named_with_near_misses(few, header):
    write_list(few, "1.png,1.wav,b,train", header=header)
    assert pytest.raises(DataError, match=HEADERS[header]).matches(DataError(problem_of(few)))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "has no column image"),
        (b"image,audio,label\n", "lists no samples"),
        (b"image,audio,label\n0.png,,caf\xe9\n", "is no UTF-8 text (byte 28)"),
        ("image,audio,label\n".encode("utf-16"), "is no UTF-8 text (byte 0)"),
        (b"image,audio,label\n0.png,,a\n1.png,,a\n", "has one class alone, 'a'"),
    ],
)
def test_a_file_that_is_no_list_is_named(few, content, said):
    (few / "samples.csv").write_bytes(content)
    assert said in problem_of(few)


def test_byte_order_marks_windows_line_ends_and_quoted_commas_are_read(few):
    shutil.copy(few / "0.png", few / "a, b.png")
    text = '\ufeffimage,audio,label\r\n"a, b.png",0.wav,"yes, sir"\r\n 1.png ,,"no ""sir"""\r\n\r\n'
    (few / "samples.csv").write_bytes(text.encode())
    data = AVFolder(root=few)
    assert data.classes == ('no "sir"', "yes, sir")
    assert [row.id for row in data.source("train").rows] == ["a, b", "1"]


def test_all_missing_files_are_counted_and_the_first_is_named(few):
    write_list(few, *(f"{n}.png,{n}.wav,{n % 2},train" for n in range(4)))
    for name in ("1.wav", "2.png", "2.wav"):
        (few / name).unlink()
    assert problem_of(few) == f"AVFolder: 3 of 8 files are missing under {few} (first: 1.wav)."
    assert list(AVFolder.check(few)) == [f"{few / name} is missing." for name in ("1.wav", "2.png", "2.wav")]


def test_whole_numbers_are_sorted_by_value_and_names_by_name():
    def classes(*labels):
        return class_names(Row(label, None, None, label) for label in labels)

    assert classes("10", "9", "2", "9") == ("2", "9", "10")
    assert classes("10", "9", "b") == ("10", "9", "b")
    assert classes("9" * 5000, "1") == ("1", "9" * 5000)


def test_a_list_for_tests_alone_is_tested_and_one_without_is_not(few):
    write_list(few, "1.png,1.wav,b,test", "2.png,2.wav,a,test")
    assert len(AVFolder(root=few).source("test")) == 2
    assert "has no samples for train" in problem_of(few)
    assert AVFolder(root=few).val_dataloader() == []


def test_no_list_means_no_training(few):
    with pytest.raises(DataError, match=r"there is no .*samples.csv. Name a list of samples with --data.csv"):
        AVFolder(root=few).source("train")
    assert AVFolder(root=few).num_classes is None


def test_wrong_options_are_refused(few):
    for shares in ({"val_share": -0.1}, {"test_share": 0.9}, {"val_share": float("nan")}):
        with pytest.raises(RecipeError, match="leave some for training"):
            AVFolder(root=few, **shares)
    with pytest.raises(RecipeError, match="exclude each other"):
        AVFolder(csv="a.csv", demo=60)
    with pytest.raises(RecipeError, match="at least 20"):
        AVFolder(root=few / "demo", demo=19).prepare_data()


# -- the split ---------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    labels=st.lists(st.sampled_from("abcde"), min_size=20, max_size=200),
    seed=st.integers(0, 9),
    share=st.floats(0, 0.4),
)
def test_each_class_is_spread_over_the_parts(labels, seed, share):
    rows = [Row(str(number), None, None, label) for number, label in enumerate(labels)]
    parts = split_rows(rows, 0.1, share, seed)
    assert [row.id for row in parts] == [row.id for row in rows]
    assert {row.label for row in parts if row.part == "train"} == set(labels)
    for part, wanted in (("test", share), ("val", 0.1)):
        sizes = Counter(row.label for row in parts if row.part == part)
        assert sizes.total() == round(wanted * len(rows))
        for label, size in Counter(labels).items():
            assert abs(sizes[label] - wanted * size) <= 2


def test_the_split_is_a_rule_of_seed_and_id(few, monkeypatch):
    rows = [Row(str(number), None, None, "ab"[number % 2]) for number in range(50)]

    def tested(rows, seed):
        return {row.id for row in split_rows(rows, 0.1, 0.3, seed) if row.part == "test"}

    assert tested(rows, 0) == tested(rows[::-1], 0) != tested(rows, 1)
    write_list(few, *(f"{n}.png,{n}.wav,{n % 2}" for n in range(4)), header="image,audio,label")
    found = set()
    for seed in range(8):
        monkeypatch.setenv("PL_GLOBAL_SEED", str(seed))
        found.add(AVFolder(root=few).source("test").rows[0].id)
    assert len(found) > 1


# -- files -------------------------------------------------------------------------------------------------------------


def test_images_of_any_size_and_colour_become_small_and_grey(tmp_path):
    path, digit = tmp_path / "a.png", draw_digit(3, np.random.default_rng(0))
    grey = torch.from_numpy(digit / np.float32(255))[None]
    variants = {
        "as it is": digit,
        "colours": np.repeat(digit[..., None], 3, axis=2),
        "larger": digit.repeat(5, axis=0).repeat(3, axis=1),
        "16 bits": digit.astype(np.uint16) * 257,
        "alpha": np.stack([np.full_like(digit, 255)] * 3 + [digit], axis=2),  # white on a transparent ground
    }
    for what, pixels in variants.items():
        write_image(path, pixels)
        torch.testing.assert_close(read_image(path), grey, atol=1e-6, rtol=0, msg=what)
    noise = np.random.default_rng(0).integers(0, 256, (56, 84), np.uint8)
    write_image(path, noise)
    means = noise.reshape(28, 2, 28, 3).mean((1, 3)).astype(np.float32) / 255
    torch.testing.assert_close(read_image(path)[0].numpy(), means, atol=1e-6, rtol=0)
    palette = Image.fromarray(digit).quantize(256)
    palette.save(path)
    expected = torch.from_numpy(np.asarray(palette.convert("L")) / np.float32(255))[None]
    torch.testing.assert_close(read_image(path), expected)
    Image.fromarray(np.where(digit > 99, 255, 0).astype(np.uint8)).convert("1").save(path)
    torch.testing.assert_close(read_image(path)[0], torch.from_numpy(digit > 99).float())
    write_image(path, np.array([[0, 255], [0, 255]], np.uint8))
    assert read_image(path)[0, :, 13:15].unique().tolist() == [0, 1]


def test_colours_become_their_luma_16_bits_keep_theirs_and_jpegs_are_turned(tmp_path):
    path = tmp_path / "a.png"
    write_image(path, np.full((30, 40, 3), (255, 0, 0), np.uint8))
    assert read_image(path).mean() == pytest.approx(0.299, abs=0.002)
    write_image(path, np.full((28, 28), 1000, np.uint16))
    assert read_image(path).mean() == pytest.approx(1000 / 65535, abs=1e-6)
    upright = np.zeros((64, 64), np.uint8)
    upright[:32] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    write_image(tmp_path / "a.jpg", upright, exif=exif)
    small = read_image(tmp_path / "a.jpg")
    assert small[0, :13].max() < 0.1
    assert small[0, 15:].min() > 0.9


@pytest.mark.parametrize(("rate", "channels"), [(44_100, 2), (16_000, 1), (8000, 2), (11_025, 3)])
def test_sounds_of_any_rate_and_channels_become_8_khz_mono(tmp_path, rate, channels):
    time = np.arange(rate) / rate
    tone = 0.5 * np.sin(2 * np.pi * 440 * time)
    write_wav(tmp_path / "a.wav", np.stack([tone * (channel + 1) for channel in range(channels)], 1) / channels, rate)
    found = read_sound(tmp_path / "a.wav")
    assert found.dtype == torch.float32
    assert found.shape == (8000,)
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(8000) / 8000) * (channels + 1) / 2 / channels
    torch.testing.assert_close(found[200:-200].numpy(), expected[200:-200].astype(np.float32), atol=2e-3, rtol=0)


def test_resampling_never_exceeds_full_scale(tmp_path):
    write_wav(tmp_path / "a.wav", np.sign(np.sin(np.arange(20_000) / 30)) * 0.9999, rate=16_000)
    assert read_sound(tmp_path / "a.wav").abs().max() <= 1


def test_the_longest_sound_is_read_and_a_longer_one_named(tmp_path):
    path = tmp_path / "a.wav"
    write_wav(path, np.zeros(LONGEST))
    assert len(read_sound(path)) == LONGEST
    for length, rate in ((LONGEST + 1, 8000), (LONGEST * 6 + 1, 48_000)):
        write_wav(path, np.zeros(length), rate)
        with pytest.raises(DataError, match=r"a\.wav has 30,718 samples at 8,000 Hz .* is 30,717 \(3\.84 s\)"):
            read_sound(path)


def patched(path: Path, start: int, content: bytes) -> None:
    whole = bytearray(path.read_bytes())
    whole[start : start + len(content)] = content
    path.write_bytes(whole)


BROKEN = {
    "0.png is no PNG or JPEG image": lambda path: path.write_bytes(b""),
    "0.png is no PNG or JPEG image.": lambda path: Image.new("L", (3, 3)).save(path, format="GIF"),
    "0.png cannot be read": lambda path: path.write_bytes((path.parents[1] / "noise.png").read_bytes()[:400]),
    "0.png cannot be read.": lambda path: patched(path, 45, b"\xff" * 8),
    "0.png has more than": lambda path: Image.new("1", (20_000, 10_000)).save(path),
    "0.wav is not a WAV file": lambda path: path.write_bytes(b""),
    "0.wav is not a WAV file.": lambda path: path.write_bytes(b"<html>404 Not Found</html>"),
    "0.wav is cut: 100 of 244 bytes": lambda path: path.write_bytes(path.read_bytes()[:100]),
    "0.wav holds no sound": lambda path: write_wav(path, np.zeros(0)),
    "0.wav is shorter than one sample": lambda path: write_wav(path, np.zeros(1), 384_000),
    "0.wav has 2,147,483,647 Hz": lambda path: patched(path, 24, b"\xff\xff\xff\x7f"),
    "are no numbers": lambda path: write_wav(path, [0.0, np.nan], subtype="FLOAT"),
    r"outside \[-1, 1\]": lambda path: write_wav(path, [0.0, 1.5], subtype="FLOAT"),
    "0.wav cannot be read": lambda path: path.write_bytes(path.read_bytes()[:8] + b"WAVE" + b"\xff" * 300),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_file_is_named(few, what):
    write_image(few.parent / "noise.png", np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8))
    BROKEN[what](few / ("0.png" if "png" in what else "0.wav"))
    with pytest.raises(DataError, match=what) as caught:
        AVFolder(root=few).source("predict").load(0, None)
    assert str(few / "0.") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(AVFolder.check(few)) == [str(caught.value)]


def test_garbled_files_end_in_one_kind_of_error(few):
    rng = np.random.default_rng(0)
    write_image(few / "a.jpg", draw_digit(3, rng))
    readers = {"0.png": read_image, "a.jpg": read_image, "3.wav": read_sound}
    outcomes = Counter()
    for name, read in readers.items():
        whole = (few / name).read_bytes()
        for _ in range(100):
            garbled = bytearray(whole)
            for place in rng.integers(0, min(len(whole), 200), 3):
                garbled[place] = rng.integers(256)
            (few / name).write_bytes(garbled)
            try:
                read(few / name)
                outcomes["read"] += 1
            except DataError:
                outcomes["refused"] += 1
    assert outcomes["refused"] > 50


# -- the folder --------------------------------------------------------------------------------------------------------


def test_files_are_paired_by_name_and_other_files_are_no_samples(few):
    (few / "0.wav").unlink()
    (few / "2.png").rename(few / "x.PNG")
    for other in ("notes.txt", "._3.png", "Thumbs.db"):
        (few / other).write_text("other")
    (few / "folder.png").mkdir()
    rows = AVFolder(root=few).source("predict").rows
    assert [(row.id, bool(row.image), bool(row.audio)) for row in rows] == [
        ("0", True, False),
        ("1", True, True),
        ("2", False, True),
        ("3", True, True),
        ("x", True, False),
    ]


def test_a_folder_that_does_not_tell_its_samples_is_refused(few, tmp_path):
    shutil.copy(few / "0.png", few / "0.jpg")
    with pytest.raises(DataError, match=r"0\.jpg and 0\.png have the same name"):
        AVFolder(root=few).source("predict")
    (few / "0.jpg").unlink()
    os.rename(few / "0.png", tmp_path / "0.png")
    (few / "0.png").symlink_to("../0.png")
    with pytest.raises(DataError, match=r"'0\.png' is no relative path"):
        AVFolder(root=few).source("predict")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="has no png, jpg or wav files"):
        AVFolder(root=tmp_path / "empty").source("predict")


@pytest.mark.parametrize("workers", [0, 1])
def test_what_cannot_be_read_is_left_out_of_predictions_and_never_replaced(few, workers, caplog):
    for name in ("0.png", "1.png", "3.png"):
        (few / name).write_text("broken")
    data = AVFolder(root=few, batch_size=2, on_bad_file="skip", num_workers=workers)
    with pytest.warns(UserWarning, match=r"1\.png is no PNG or JPEG image\. It is left out\."):
        batches = list(data.predict_dataloader())
    assert [(batch["id"], batch["index"].tolist()) for batch in batches] == [(["2"], [2])]
    with caplog.at_level(logging.INFO, "lightning.pytorch"):
        data.teardown("predict")
    assert (
        "3 times a sample was replaced or left out because its file could not be read (3 different files)."
        in caplog.text
    )


def test_training_replaces_what_cannot_be_read(few):
    write_list(few, *(f"{n}.png,{n}.wav,{n % 2},train" for n in range(4)))
    (few / "1.png").write_text("broken")
    data = AVFolder(root=few, batch_size=4, on_bad_file="skip")
    with pytest.warns(UserWarning, match="Another sample takes its place"):
        (batch,) = data.pass_loader("train")
    assert len(batch["id"]) == 4
    assert [f"{index}" for index in batch["index"].tolist()] == batch["id"]


# -- the commands ------------------------------------------------------------------------------------------------------


def run(folder: Path, *args: str) -> None:
    from zoo.cli import main

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.chdir(folder)
        main([*args])


def predictions(folder: Path) -> list[dict[str, str]]:
    *_, newest = sorted(folder.glob("runs/**/predictions.csv"), key=os.path.getmtime)
    with newest.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """Checkpoint of one epoch on 60 pairs of AV-MNIST's demo."""
    folder = tmp_path_factory.mktemp("trained")
    small = ["--data.demo=60", "--data.root=demo", "--trainer.max_epochs=1", "--model.dim=16"]
    run(folder, "fit", "-c", str(RECIPES / "shaspec/demo.yaml"), *small)
    return next(folder.rglob("last.ckpt"))


def test_a_folder_is_predicted_in_order_as_the_model_says(trained, tmp_path):
    from zoo.methods.shaspec.module import ShaSpecClassifier

    folder = tmp_path / "mine"
    folder.mkdir()
    for number in range(11):
        rng = np.random.default_rng(number)
        if number != 4:
            write_image(folder / f"s{number}.png", draw_digit(number % 10, rng))
        if number != 7:
            write_wav(folder / f"s{number}.wav", speak_digit(number % 10, "theo", rng))
    run(tmp_path, "predict", "--data=AVFolder", "--data.root=mine", "--data.batch_size=4", f"--ckpt_path={trained}")
    rows = predictions(tmp_path)
    assert [row.pop("id") for row in rows] == sorted(f"s{number}" for number in range(11))
    assert list(rows[0]) == [f"class_{digit}" for digit in range(AVMNIST.num_classes)]
    model = ShaSpecClassifier.load_from_checkpoint(trained, weights_only=True).eval()
    (batch,) = AVFolder(root=folder).predict_dataloader()
    with torch.no_grad():
        expected = model(batch).softmax(1)
    found = torch.tensor([[float(value) for value in row.values()] for row in rows])
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=0)
    assert len(found.unique(dim=0)) == 11


def test_classes_are_kept_in_checkpoints_named_in_predictions_and_others_are_refused(demo, few, tmp_path, capsys):
    recipe = ["-c", str(RECIPES / "shaspec/own_data.yaml"), "--model.dim=16", "--trainer.max_epochs=1"]
    own = shutil.copytree(demo, tmp_path / "own")
    run(tmp_path, "fit", *recipe, "--data.csv=own/samples.csv")
    checkpoint = next(tmp_path.rglob("last.ckpt"))
    run(tmp_path, "predict", "--data=AVFolder", f"--data.root={few}", f"--ckpt_path={checkpoint}")
    rows = predictions(tmp_path)
    assert list(rows[0]) == ["id", *(f"class_{name}" for name in DEMO_CLASSES)]
    assert [row["id"] for row in rows] == ["0", "1", "2", "3"]
    text = (own / "samples.csv").read_text()
    (own / "samples.csv").write_text(text.replace(",nine,", ",neun,"))
    with pytest.raises(SystemExit):
        run(tmp_path, "test", *recipe, "--data.csv=own/samples.csv", "--ckpt_path=last")
    assert "has other classes than the checkpoint was trained on" in capsys.readouterr().err


def test_weights_are_tuned_further_to_another_number_of_classes(trained, demo, tmp_path, capsys):
    own = shutil.copytree(demo, tmp_path / "own")
    header, *lines = (own / "samples.csv").read_text().splitlines()
    few_classes = [line for line in lines if not {"eight", "nine"} & set(line.split(","))]
    (own / "samples.csv").write_text("\n".join([header, *few_classes, ""]))
    fit = ["fit", "-c", str(RECIPES / "shaspec/own_data.yaml"), "--model.dim=16", "--data.csv=own/samples.csv"]
    fit += [f"--weights={trained}", "--trainer.max_epochs=1", "--model.optimizer=SGD", "--model.optimizer.lr=0"]
    with pytest.raises(SystemExit):
        run(tmp_path, *fit)
    assert "network.head.3.weight" in capsys.readouterr().err
    run(tmp_path, *fit, "--allow-missing", "network.head.3.*")
    old, new = (
        torch.load(path, weights_only=True)["state_dict"] for path in (trained, next(tmp_path.rglob("last.ckpt")))
    )
    assert new["network.head.3.weight"].shape == (8, 16)
    assert all(torch.equal(old[key], new[key]) for key in new if key.startswith("network") and "head.3" not in key)
