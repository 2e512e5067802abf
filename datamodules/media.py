"""Reads anybody's pictures and sounds as AV-MNIST's: 28×28 grey, 8 kHz mono."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from datamodules import images
from datamodules.avmnist import LONGEST, SAMPLE_RATE
from datamodules.wav import refuse_cut
from zoo.core.errors import DataError
from zoo.core.extras import require

SIDE = 28  # pixels
SAMPLE_RATES = range(1000, 384_001)  # in Hz; beyond, the header is wrong or meant to exhaust the memory


def read_image(path: Path) -> Tensor:
    """Read a PNG or JPEG of any size and colour as a small grey image.

    Turned as its EXIF entry says, transparent parts on black, colours to their luma (ITU-R 601), then resampled to
    28×28 by area, whatever its proportions were. 16-bit grey keeps its precision. Bright stays bright: MNIST's ink is
    bright on black, and dark ink on paper is not inverted.

    Returns:
        float32 [1, 28, 28], in [0, 1].

    Raises:
        DataError: naming the file, if it is missing, cut, absurdly large, or of another kind.
    """
    grey = _grey(images.read_image(path))
    small = np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BOX))
    return torch.from_numpy(small.clip(0, 1))[None]


def _grey(image: Image.Image) -> Image.Image:
    """As floats in [0, 1], in Pillow's mode F."""
    if images.is_16_bit(image):  # which Pillow's own conversion would cut off at 255
        return Image.fromarray(np.asarray(image, np.float32) / np.float32(65535))
    image = images.on_black(image)
    if image.mode not in ("1", "L"):
        image = image.convert("RGB")
    return Image.fromarray(np.asarray(image.convert("L")) / np.float32(255))


def read_sound(path: Path) -> Tensor:
    """Read a WAV file of any sample rate and number of channels as 8 kHz mono.

    Channels are averaged; another rate is resampled by soxr (its setting HQ), which may exceed full scale and is
    clipped.

    Returns:
        float32 [T], in [-1, 1], 1 <= T <= 30,717.

    Raises:
        DataError: naming the file, if it is missing, cut, empty, too long, or of another kind.
    """
    soundfile = require("soundfile", "audio")
    try:
        refuse_cut(path)
        with soundfile.SoundFile(path) as sound:
            _refuse_length(path, sound)
            channels, sample_rate = sound.read(dtype="float32", always_2d=True), sound.samplerate
    except (OSError, RuntimeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if not (np.abs(channels) <= 1).all():
        raise DataError(f"{path} has samples outside [-1, 1] or that are no numbers.")
    waveform = channels.mean(1)
    if sample_rate != SAMPLE_RATE:
        waveform = require("soxr", "audio").resample(waveform, sample_rate, SAMPLE_RATE, quality="HQ").clip(-1, 1)
    if not len(waveform):
        raise DataError(f"{path} is shorter than one sample at {SAMPLE_RATE:,} Hz.")
    return torch.from_numpy(waveform)


def _refuse_length(path: Path, sound: Any) -> None:
    """Before anything is decoded."""
    if sound.samplerate not in SAMPLE_RATES:
        raise DataError(f"{path} has {sound.samplerate:,} Hz; from 1,000 to 384,000 can be read.")
    if not sound.frames:
        raise DataError(f"{path} holds no sound.")
    length = math.ceil(sound.frames * SAMPLE_RATE / sound.samplerate)
    if length > LONGEST:
        raise DataError(
            f"{path} has {length:,} samples at {SAMPLE_RATE:,} Hz ({length / SAMPLE_RATE:.2f} s); the longest that the "
            f"models hear is {LONGEST:,} ({LONGEST / SAMPLE_RATE:.2f} s). Cut it first."
        )
