"""Windows over a clip, and the video frame that each of them sees, as the published evaluations define both.

Frames are numbered as their files are, at 10 per second. Rounding is to the nearest, halves to the even number.
"""

from __future__ import annotations

import numpy as np

SAMPLE_RATE = 16_000  # Hz
FRAME_RATE = 10  # per second
WINDOW = 10_080  # samples: 0.63 s


def regular_starts(samples: int, window: int = WINDOW, hop: int = WINDOW // 10) -> np.ndarray:
    """Starts of windows a hop apart, the last of which reaches the clip's end or beyond it (CCStereo).

    Args:
        samples: of the clip, T. If it is no longer than a window, there is one.

    Returns:
        int64 [N].
    """
    count = max(0, -(-(samples - window) // hop)) + 1
    return np.arange(count) * hop


def flush_starts(samples: int, window: int = WINDOW, hop: int = SAMPLE_RATE // 20) -> np.ndarray:
    """Starts of windows a hop apart, then of one that ends where the clip ends (Mono2Binaural). int64 [N]."""
    last = max(0, samples - window)
    return np.append(np.arange(0, last, hop), last)


def covered(starts: np.ndarray, window: int = WINDOW) -> int:
    """Samples that the windows cover, those beyond the clip's end included."""
    return int(starts[-1]) + window


def frames_by_whole_seconds(starts: np.ndarray, samples: int, delay: float, window: int = WINDOW) -> np.ndarray:
    """Frame of each window in CCStereo's evaluation.

    Published code takes a clip to last as many whole seconds as fit into it: in FAIR-Play's 473 clips of 159,744
    samples, 9 seconds of frames are spread over 9.984 s of sound.

    Args:
        starts: of the windows, int64 [N].
        samples: of the clip, T.
        delay: in seconds, added to the window's centre: 0.1 for FAIR-Play, 0.05 for YT-Clean.

    Returns:
        int64 [N].
    """
    return _rounded((starts + window // 2) / samples * (samples // SAMPLE_RATE) + delay)


def frames_of_a_given_length(
    starts: np.ndarray, samples: int, seconds: float, delay: float = 0.05, window: int = WINDOW
) -> np.ndarray:
    """Frame of each window of :func:`flush_starts` in Mono2Binaural's evaluation, int64 [N].

    Args:
        seconds: that the clip is taken to last; 10 for FAIR-Play.
    """
    centres = (starts + window // 2) / samples * seconds
    centres[-1] = seconds - window / SAMPLE_RATE / 2
    return _rounded(centres + delay)


def frames_by_time(starts: np.ndarray, delay: float, window: int = WINDOW) -> np.ndarray:
    """Frame of each window by the time at its centre, int64 [N]: clips of any length, and training."""
    return _rounded((starts + window // 2) / SAMPLE_RATE + delay)


def _rounded(seconds: np.ndarray) -> np.ndarray:
    return np.maximum(0, np.round(seconds * FRAME_RATE)).astype(np.int64)
