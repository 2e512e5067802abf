"""Writes what a user's own folder may look like: AV-MNIST's generated digits as PNG and WAV files, and their list."""

import csv
from pathlib import Path

from PIL import Image

from datamodules.avmnist import SAMPLE_RATE, make_demo_pairs
from datamodules.demo.avmnist import draw_digit, speak_digit
from datamodules.own_data import DIGIT_NAMES, LIST
from zoo.core.errors import RecipeError
from zoo.core.extras import require
from zoo.core.randomness import numpy_generator

SMALLEST = 20  # so that every digit is trained on


def write_demo(root: Path, samples: int) -> None:
    """Write `samples` pairs, every eleventh of them without an image, another eleventh without a sound.

    Every file is drawn from a seed of its own, in which its part of the data is named.

    Raises:
        RecipeError: if that is too few or too many.
    """
    if samples < SMALLEST:
        raise RecipeError(f"A demo of AVFolder has at least {SMALLEST} samples, not {samples}.")
    soundfile = require("soundfile", "audio")
    (root / "images").mkdir()
    (root / "sounds").mkdir()
    with (root / LIST).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "audio", "label", "split"])
        for number, pair in enumerate(make_demo_pairs(samples)):
            image, audio = f"images/{pair.id}.png", f"sounds/{pair.id}.wav"
            if number % 11 == 3:
                image = ""
            else:
                drawn = draw_digit(pair.digit, numpy_generator("own data demo", "image", pair.part, pair.id))
                Image.fromarray(drawn).save(root / image)
            if number % 11 == 7:
                audio = ""
            else:
                spoken = numpy_generator("own data demo", "sound", pair.part, pair.id)
                sound = speak_digit(pair.digit, pair.speaker, spoken)
                soundfile.write(root / audio, sound, SAMPLE_RATE, "PCM_16")
            writer.writerow([image, audio, DIGIT_NAMES[pair.digit], pair.part])
