import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from datamodules.images import (
    CentreCrop,
    ColourJitter,
    HorizontalFlip,
    RandomCrop,
    RandomResizedCrop,
    Resize,
    ResizeShorter,
    apply,
    read_rgb,
    to_tensor,
)
from zoo.core.errors import DataError

RAMP = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
sizes = st.integers(1, 60)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def picture(width: int, height: int) -> Image.Image:
    return Image.fromarray(rng().integers(1, 256, (height, width, 3), dtype=np.uint8))


# -- reading ---------------------------------------------------------------------------------------------------------


def test_a_png_is_read_as_it_is(tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    assert np.array_equal(np.asarray(read_rgb(tmp_path / "a.png")), RAMP)


def test_grey_of_8_and_16_bits_fills_three_channels(tmp_path):
    grey = np.array([[0, 100, 255]], np.uint8)
    Image.fromarray(grey).save(tmp_path / "8.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "16.png")
    for name in ("8.png", "16.png"):
        assert np.array_equal(np.asarray(read_rgb(tmp_path / name)), np.stack([grey] * 3, axis=-1))


def test_what_is_transparent_is_black(tmp_path):
    Image.new("RGBA", (2, 2), (200, 100, 50, 0)).save(tmp_path / "a.png")
    assert not np.asarray(read_rgb(tmp_path / "a.png")).any()
    palette = Image.new("P", (2, 2), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    palette.save(tmp_path / "p.png")
    assert np.asarray(read_rgb(tmp_path / "p.png"))[0, 0].tolist() == [10, 20, 30]


def test_a_jpeg_is_turned_as_its_exif_entry_says_and_cmyk_becomes_rgb(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter to the right
    Image.new("CMYK", (8, 4)).save(tmp_path / "a.jpg", exif=exif)
    image = read_rgb(tmp_path / "a.jpg")
    assert (image.mode, image.size) == ("RGB", (4, 8))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (lambda b: b[: len(b) // 2], "cannot be read"),
        (lambda b: b"", "is no PNG or JPEG"),
        (lambda b: b"GIF89a" + b[6:], "is no PNG or JPEG"),
        (lambda b: b[:20] + bytes(len(b) - 20), "a.jpg"),
    ],
)
def test_a_broken_file_is_named(tmp_path, content, said):
    path = tmp_path / "a.jpg"
    picture(40, 40).save(path)
    path.write_bytes(content(path.read_bytes()))
    with pytest.raises(DataError, match=said):
        read_rgb(path)


def test_a_missing_file_and_a_picture_meant_to_fill_the_memory_are_refused(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"a\.jpg is missing"):
        read_rgb(tmp_path / "a.jpg")
    picture(40, 40).save(tmp_path / "b.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DataError, match="more than 1,000 pixels"):
        read_rgb(tmp_path / "b.png")


def test_tensors_have_channels_first_and_are_in_0_1():
    assert torch.equal(to_tensor(Image.fromarray(RAMP)), torch.from_numpy(RAMP).permute(2, 0, 1) / 255)
    assert to_tensor(Image.new("L", (4, 2), 255)).tolist() == [[[1.0] * 4] * 2]


# -- sizes and augmentation ------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(width=sizes, height=sizes, size=sizes, seed=st.integers(0, 99))
def test_every_step_gives_its_size(width, height, size, seed):
    image = picture(width, height)
    square = (size, size)
    for step in (
        Resize(size),
        CentreCrop(size),
        RandomCrop(size),
        RandomCrop(size, padding=4),
        RandomResizedCrop(size),
    ):
        assert step(image, rng(seed)).size == square, step
    assert min(ResizeShorter(size)(image, None).size) == size
    for step in (HorizontalFlip(), ColourJitter(0.4, 0.4, 0.4, 0.1)):
        assert step(image, rng(seed)).size == image.size


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999))
def test_equal_generators_draw_equal_augmentations(seed):
    steps = (RandomResizedCrop(16), HorizontalFlip(), ColourJitter(0.4, 0.4, 0.4, 0.1), RandomCrop(16, padding=2))
    one, two = (np.asarray(apply(steps, picture(30, 20), rng(seed))) for _ in range(2))
    assert np.array_equal(one, two)


def test_a_crop_takes_any_place_of_the_padded_image_and_no_other():
    image = Image.fromarray(RAMP[:6, :6])
    padded = np.pad(RAMP[:6, :6], ((2, 2), (2, 2), (0, 0)))
    places = {padded[y : y + 6, x : x + 6].tobytes() for y in range(5) for x in range(5)}
    drawn = {np.asarray(RandomCrop(6, padding=2)(image, generator)).tobytes() for generator in map(rng, range(400))}
    assert drawn == places


def test_the_centre_is_the_middle():
    assert np.array_equal(np.asarray(CentreCrop(2)(Image.fromarray(RAMP), None)), RAMP[2:4, 3:5])


def test_half_of_the_images_are_flipped():
    image = Image.fromarray(RAMP)
    flipped = [np.array_equal(np.asarray(HorizontalFlip()(image, rng(seed))), RAMP[:, ::-1]) for seed in range(200)]
    assert 75 < sum(flipped) < 125


def test_sizes_are_those_of_torchvision():
    functional = pytest.importorskip("torchvision.transforms.functional")
    image = picture(70, 50)
    assert np.array_equal(np.asarray(ResizeShorter(32)(image, None)), np.asarray(functional.resize(image, 32)))
    cropped = functional.center_crop(image, [32, 32])
    assert np.array_equal(np.asarray(CentreCrop(32)(image, None)), np.asarray(cropped))


def test_jitter_keeps_its_bounds():
    grey = Image.new("RGB", (4, 4), (100, 100, 100))
    levels = [np.asarray(ColourJitter(brightness=0.2)(grey, rng(seed)))[0, 0, 0] for seed in range(50)]
    assert min(levels) >= 80
    assert max(levels) <= 120
    assert len(set(levels)) > 10
    red = Image.new("RGB", (4, 4), (200, 0, 0))
    assert np.asarray(ColourJitter(hue=0.5)(red, rng(1)))[0, 0].tolist() != [200, 0, 0]
    assert np.array_equal(np.asarray(ColourJitter()(picture(9, 9), rng())), np.asarray(picture(9, 9)))
