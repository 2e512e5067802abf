"""What data modules of clips with two-ear sound share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from datamodules.base import Split, ZooDataModule
from datamodules.binaural.prediction import CONTEXT, PredictionSource, Recording
from datamodules.binaural.source import Clip, Cutting, EvaluationSource, Protocol, TrainingSource
from datamodules.binaural.windows import SAMPLE_RATE, frames_by_time, regular_starts
from zoo.core.errors import DataError, RecipeError
from zoo.core.names import unknown

HOPS: dict[Protocol, float] = {"ccstereo": 0.063, "mono2binaural": 0.05}
FRAME_SIZE, WINDOW = (224, 448), 10_080
"""Published: pixels and samples."""


class BinauralData(ZooDataModule):
    """Base of them. A subclass implements :meth:`clips`; see it for what `root` holds.

    Batch: :class:`~datamodules.batch.BinauralAudio`. Training gives one window of each of `batch_size` clips per
    step; evaluation and prediction give one clip, or one piece of about 10 s, per batch, whatever `batch_size` is.
    Sound of another rate than 16 kHz is resampled once, on first use, into `cache`.

    Args:
        frame_size: height and width of the frames. `None`: as the model sees; without a model 224×448, as published.
        window: seconds of sound that a network hears at once, at most 1. `None`: as the model hears, or 0.63.
        hop: seconds from window to window in evaluation. `None`: a tenth of 0.63 s, or 0.05 s, as the protocol has it.
        frame_delay: seconds from a window's centre to the frame that goes with it. `None`: as published.
        protocol: "ccstereo" or "mono2binaural": how evaluation cuts clips; see
            :class:`~datamodules.binaural.source.Cutting`.
        cache: folder for resampled sound. `None`: `sound_16khz` in `root`.
        **base: see :class:`~datamodules.base.ZooDataModule`.
    """

    task: ClassVar[str] = "binaural_audio"
    published_delay: ClassVar[float] = 0.1

    def __init__(
        self,
        *,
        frame_size: tuple[int, int] | None = None,
        window: float | None = None,
        hop: float | None = None,
        frame_delay: float | None = None,
        protocol: Protocol = "ccstereo",
        cache: str | Path | None = None,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        if protocol not in HOPS:
            raise unknown("value of data.protocol", protocol, get_args(Protocol))
        if frame_size is not None and min(frame_size) < 1:
            raise RecipeError(f"data.frame_size is {tuple(frame_size)}; it is a height and a width in pixels.")
        self.protocol, self.frame_size, self.window, self.frame_delay = protocol, frame_size, window, frame_delay
        self.hop = HOPS[protocol] if hop is None else hop
        self.cache = Path(cache).expanduser() if cache is not None else self.root / "sound_16khz"

    # -- to be implemented --------------------------------------------------------------------------------------------

    def clips(self, split: Literal["train", "val", "test"]) -> Sequence[Clip]:
        """The clips of a split, all of whose files exist. Raises DataError."""
        raise NotImplementedError

    # -- shared -------------------------------------------------------------------------------------------------------

    @property
    def cutting(self) -> Cutting:
        """How clips are cut for the model at hand. Raises RecipeError."""
        window = round(self.window * SAMPLE_RATE) if self.window is not None else getattr(self.model, "window", WINDOW)
        if not 0 < window <= CONTEXT * SAMPLE_RATE:
            source = "" if self.window is not None else ", which is model.window"
            raise RecipeError(
                f"data.window is {window / SAMPLE_RATE:g} s{source}; it is more than 0 and at most {CONTEXT} second."
            )
        hop = round(self.hop * SAMPLE_RATE)
        if not 1 <= hop <= window:
            raise RecipeError(
                f"data.hop is {self.hop} s; it is more than 0 and at most a window, {window / SAMPLE_RATE:g} s."
            )
        size = self.frame_size or getattr(self.model, "frame_size", FRAME_SIZE)
        delay = self.frame_delay
        if delay is None:
            delay = 0.05 if self.protocol == "mono2binaural" else self.published_delay
        return Cutting(self.protocol, tuple(size), window, hop, delay)

    def source(self, split: Split) -> TrainingSource | EvaluationSource | PredictionSource:
        if split == "predict":
            return PredictionSource(self.recordings(), self.cutting)
        clips = self.clips(split)
        return TrainingSource(clips, self.cutting) if split == "train" else EvaluationSource(clips, self.cutting)

    def recordings(self) -> Sequence[Recording]:
        """What is predicted: the test split."""
        return [Recording(clip.id, clip.sound.path, clip.frames) for clip in self.clips("test")]

    def usual_batch_size(self, split: Split, augment: bool) -> int:
        return self.batch_size if split == "train" else 1  # a clip that is evaluated is a batch of windows


def refuse_missing(data: BinauralData, clips: Sequence[Clip], split: str) -> None:
    """Refuse a split of which clips lack files.

    Raises:
        DataError: counting them, and naming the first file.
    """
    lacking = [path for clip in clips for path in (clip.sound.path, clip.frames.path) if not path.exists()]
    if lacking:
        raise DataError(
            f"{type(data).__name__}: {len(lacking):,} of {2 * len(clips):,} sounds and pictures of the split {split} "
            f"are missing under {data.root} (first: {lacking[0].relative_to(data.root)}). `zoo data check {data.name} "
            f"{data.root}` lists all."
        )


def problems(clips: Iterable[Clip], cutting: Cutting) -> Iterator[str]:
    """What is wrong with the files of clips, one line each: with the sound, and with each frame that may be asked for.

    Frames of clips whose sound is missing are not looked at.
    """
    for clip in clips:
        try:
            own = frames_by_time(regular_starts(clip.sound.length(), cutting.window, cutting.hop), cutting.delay)
        except DataError as error:
            yield str(error)
            continue
        yield from clip.frames.problems(range(max(0, own[0] - 1), own[-1] + 1))
