"""Small scenes that one can see and hear with two ears: the picture tells the side, the sum of both ears does not.

Three players differ in look and in timbre. Some scenes have two of them, so that it matters whose sound is whose; in
some of these only one plays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

SAMPLE_RATE, FRAME_RATE, SECONDS = 16_000, 10, 2
HEIGHT, WIDTH = 64, 128

LEVEL = 18.0  # dB between the ears, for a source at the picture's edge
DELAY = 4.0  # samples between the ears, likewise
ROOM = 0.003  # noise of the room, different at each ear; the players have about 0.1

# -- timbres ----------------------------------------------------------------------------------------------------------


def _beats(rng: np.random.Generator, shortest: float, longest: float) -> np.ndarray:
    """Seconds at which notes begin, the first before the clip does: [N]."""
    gaps = rng.uniform(shortest, longest, int(SECONDS / shortest) + 2)
    return np.cumsum(gaps) - gaps[0] - rng.uniform(0, shortest)


def _since_beat(beats: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of every sample: which note it belongs to, and the seconds since that began. [T] each."""
    time = np.arange(SECONDS * SAMPLE_RATE) / SAMPLE_RATE
    note = np.searchsorted(beats, time, side="right") - 1
    return note, time - beats[note]


def hum(rng: np.random.Generator) -> np.ndarray:
    """Long soft notes of 200 to 450 Hz with few overtones."""
    beats = _beats(rng, 0.4, 0.7)
    note, since = _since_beat(beats)
    pitch = rng.uniform(200, 450, len(beats))[note] * (1 + 0.01 * np.sin(2 * np.pi * 5 * since))
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE
    return np.minimum(since / 0.05, 1) * sum(level * np.sin(k * phase) for k, level in ((1, 1), (2, 0.4), (3, 0.15)))


def pluck(rng: np.random.Generator) -> np.ndarray:
    """Fast dying notes of 600 to 1,100 Hz with overtones that die faster."""
    beats = _beats(rng, 0.18, 0.32)
    note, since = _since_beat(beats)
    phase = 2 * np.pi * rng.uniform(600, 1100, len(beats))[note] * since
    tones = ((k, np.exp(-since * (4 + 3 * k)) / k) for k in range(1, 5))
    return np.minimum(since / 0.003, 1) * sum(level * np.sin(k * phase) for k, level in tones)


def shake(rng: np.random.Generator) -> np.ndarray:
    """Bursts of noise from 3 to 7 kHz."""
    _, since = _since_beat(_beats(rng, 0.12, 0.25))
    noise = np.fft.rfft(rng.normal(size=SECONDS * SAMPLE_RATE))
    frequency = np.fft.rfftfreq(SECONDS * SAMPLE_RATE, 1 / SAMPLE_RATE)
    band = np.exp(-(((frequency - rng.uniform(4500, 5500)) / 1000) ** 4))
    return np.fft.irfft(noise * band) * (0.15 + np.exp(-since * 12))


# -- scenes -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Player:
    """A kind of player: its shape, its colour, its sound (draws a waveform [T])."""

    corners: int  # of its shape; 0 is a disc
    colour: tuple[int, int, int]
    play: Callable[[np.random.Generator], np.ndarray]


PLAYERS = (
    Player(0, (214, 66, 56), hum),
    Player(4, (58, 104, 214), pluck),
    Player(3, (232, 190, 50), shake),
)


@dataclass(frozen=True)
class Placed:
    """A player in a scene. `across`: its place at `SECONDS * FRAME_RATE` frames, 0 left, 1 right; `down` likewise."""

    player: Player
    across: np.ndarray
    down: float
    radius: float  # pixels
    sounding: bool


def render_scene(rng: np.random.Generator) -> tuple[np.ndarray, list[Image.Image]]:
    """A scene of 2 s.

    Returns:
        float [2, T] in [-1, 1] at 16 kHz, left and right; 20 pictures of 64×128 pixels.
    """
    placed = _place(rng)
    stereo = sum(_heard(thing, rng) for thing in placed if thing.sounding)
    stereo = stereo + ROOM * rng.normal(size=stereo.shape)
    stereo *= rng.uniform(0.4, 0.9) / np.abs(stereo).max()
    return stereo, _seen(placed, rng)


def _place(rng: np.random.Generator) -> list[Placed]:
    kinds = rng.permutation(len(PLAYERS))
    alone = rng.random() < 0.45
    places = np.array([rng.uniform(0.08, 0.92)])
    if not alone:
        left = rng.uniform(0.08, 0.45)
        places = rng.permutation([left, rng.uniform(left + 0.35, 0.92)])
    both = rng.random() < 0.65
    time = np.linspace(0, SECONDS, SECONDS * FRAME_RATE, endpoint=False)
    return [
        Placed(
            PLAYERS[kinds[number]],
            np.clip(place + rng.uniform(-0.06, 0.06) * time, 0.06, 0.94),
            rng.uniform(0.35, 0.65),
            rng.uniform(7, 11),
            sounding=number == 0 or both,
        )
        for number, place in enumerate(places)
    ]


def _heard(thing: Placed, rng: np.random.Generator) -> np.ndarray:
    """What arrives at both ears: nearer is louder and earlier. Float [2, T]."""
    sound = thing.player.play(rng)
    sound *= rng.uniform(0.07, 0.13) / np.sqrt(np.mean(sound**2))
    time = np.arange(len(sound))
    side = 2 * np.interp(time / SAMPLE_RATE * FRAME_RATE, np.arange(len(thing.across)), thing.across) - 1
    gains = np.stack([10 ** (-LEVEL / 40 * side), 10 ** (LEVEL / 40 * side)])
    gains /= np.sqrt((gains**2).mean(0))
    delays = DELAY / 2 * np.stack([1 + side, 1 - side])
    return gains * np.stack([np.interp(time - delay, time, sound) for delay in delays])


def _seen(placed: list[Placed], rng: np.random.Generator) -> list[Image.Image]:
    scale = 4  # drawn large, so that edges are smooth and small movements show
    shade = rng.uniform(40, 130, (3, 6, 1)) + rng.normal(0, 8, (3, 6, 3))
    wall = Image.fromarray(shade.clip(0, 255).astype(np.uint8))
    wall = wall.resize((WIDTH * scale, HEIGHT * scale), Image.Resampling.BICUBIC)
    pictures = []
    for frame in range(SECONDS * FRAME_RATE):
        canvas = wall.copy()
        pen = ImageDraw.Draw(canvas)
        for thing in placed:
            middle = (thing.across[frame] * WIDTH * scale, thing.down * HEIGHT * scale)
            if thing.player.corners:
                pen.regular_polygon(
                    (middle, thing.radius * scale * 1.2), thing.player.corners, fill=thing.player.colour
                )
            else:
                pen.circle(middle, thing.radius * scale, fill=thing.player.colour)
        pictures.append(canvas.reduce(scale))
    return pictures
