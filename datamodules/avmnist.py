"""AV-MNIST: a written digit (MNIST) and the same digit spoken (Free Spoken Digit Dataset), paired as SMIL does."""

import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from datamodules.base import DEMO_RECORD, Split, ZooDataModule
from datamodules.idx import read_idx
from datamodules.loading import Loader, Sample
from datamodules.wav import refuse_cut
from zoo.core.errors import DataError, RecipeError
from zoo.core.extras import require
from zoo.core.names import unknown
from zoo.core.randomness import global_seed, numpy_generator

IMAGES = Path("MNIST/raw")
RECORDINGS = Path("free-spoken-digit-dataset/recordings")

DIGITS = 10
RECORDINGS_PER_DIGIT_AND_SPEAKER = 50
SAMPLE_RATE = 8000
LONGEST = 30_717  # samples: what fits into the 20 frames of the MFCC front end

MNISTFile = Literal["train", "t10k"]
Pairing = Literal["paper", "large"]
Splitting = Literal["train_val_test", "smil"]
SPEAKERS: dict[Pairing, tuple[str, ...]] = {
    "paper": ("jackson", "nicolas", "theo"),
    "large": ("george", "jackson", "lucas", "nicolas", "theo", "yweweler"),
}


@dataclass(frozen=True)
class Pair:
    """One recording and the part of the data it belongs to; its image follows from its place among the pairs."""

    digit: int
    speaker: str
    recording: int
    part: Literal["train", "val", "test"]

    @property
    def id(self) -> str:
        return f"{self.digit}_{self.speaker}_{self.recording}"

    @property
    def file(self) -> MNISTFile:
        """Where its image is from."""
        return "t10k" if self.part == "test" else "train"


def make_pairs(count: int, speakers: Sequence[str]) -> list[Pair]:
    """`count` pairs, of which 30 % are for testing, 10 % for validation, the rest for training.

    Recordings are counted from 0: the first are for testing, the next for validation. Within a part, digits take turns
    first, then speakers, then recordings. 50 recordings of each digit and speaker give 0-14, 15-19, 20-49.
    """
    sizes = {"test": 3 * count // 10, "val": count // 10}
    sizes["train"] = count - sum(sizes.values())
    pairs: list[Pair] = []
    first = 0
    for part, size in sizes.items():
        for place in range(size):
            turn, cell = divmod(place, DIGITS * len(speakers))
            pairs.append(Pair(cell % DIGITS, speakers[cell // DIGITS], first + turn, part))
        first += math.ceil(size / (DIGITS * len(speakers)))
    return pairs


def make_demo_pairs(samples: int) -> list[Pair]:
    """The pairs of a demo of this size. Raises RecipeError if that is too small or too large."""
    if not DIGITS <= samples <= 60_000:
        raise RecipeError(f"A demo of AV-MNIST has from {DIGITS} to 60,000 samples, not {samples}.")
    return make_pairs(samples, SPEAKERS["paper"])


def pairs_under(root: Path, pairing: Pairing) -> list[Pair]:
    """The pairs that `root` must hold: those of the downloads, or those that its demo record tells.

    Raises:
        DataError: if the demo record is broken or of another data set.
    """
    record = root / DEMO_RECORD
    if not record.is_file():
        speakers = SPEAKERS[pairing]
        return make_pairs(DIGITS * len(speakers) * RECORDINGS_PER_DIGIT_AND_SPEAKER, speakers)
    try:
        match json.loads(record.read_bytes()):
            case {"data_module": AVMNIST.name, "samples": int(samples)}:
                return make_demo_pairs(samples)
    except (ValueError, OSError, RecursionError, RecipeError) as error:
        raise DataError(f"{record} is broken ({error}). Delete {root} and write the demo again.") from error
    raise DataError(f"{record} does not tell of a demo of AV-MNIST. Delete {root} or name another folder.")


def order_of_audio(pairs: Sequence[Pair], seed: int) -> list[int]:
    """The order in which pairs are given their audio when it is scarce: a rule of (seed, the pairs).

    Every first part of it is spread over digits, speakers and both together as evenly as the pairs allow, and a
    smaller share is contained in a larger one.

    Returns:
        A permutation of the pairs' indices.
    """
    speakers = sorted({pair.speaker for pair in pairs})
    waiting: dict[tuple[int, str], list[int]] = {}
    rng = numpy_generator(seed, "avmnist", "order of audio")
    for index in rng.permutation(len(pairs)).tolist():
        waiting.setdefault((pairs[index].digit, pairs[index].speaker), []).append(index)
    order: list[int] = []
    while len(order) < len(pairs):
        digit, speaker = rng.permutation(DIGITS).tolist(), rng.permutation(speakers).tolist()
        for turn in range(DIGITS * len(speakers)):
            # Both wheels turn at once, so that any few turns meet all digits and all speakers; where both are back at
            # their start together, one is set forward.
            shift = turn // math.lcm(DIGITS, len(speakers))
            cell = waiting.get((digit[turn % DIGITS], speaker[(turn + shift) % len(speakers)]))
            if cell:
                order.append(cell.pop())
    return order


def read_recording(path: Path) -> Tensor:
    """Read a recording of the Free Spoken Digit Dataset: WAV, 8 kHz, mono.

    Returns:
        float32 [T], in [-1, 1], 1 <= T <= 30,717.

    Raises:
        DataError: naming the file, if it is missing, cut, empty, longer, or of another kind.
    """
    soundfile = require("soundfile", "audio")
    try:
        refuse_cut(path)
        with soundfile.SoundFile(path) as sound:
            if sound.samplerate != SAMPLE_RATE or sound.channels != 1:
                raise DataError(
                    f"{path} has {sound.samplerate} Hz and {sound.channels} channels; recordings of the Free Spoken "
                    f"Digit Dataset have {SAMPLE_RATE} Hz and one channel."
                )
            if not 1 <= sound.frames <= LONGEST:
                raise DataError(f"{path} has {sound.frames:,} samples; a spoken digit has from 1 to {LONGEST:,}.")
            waveform = sound.read(dtype="float32")
    except (OSError, RuntimeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if not (np.abs(waveform) <= 1).all():
        raise DataError(f"{path} has samples outside [-1, 1] or that are no numbers.")
    return torch.from_numpy(waveform)


def find_idx(root: Path, file: str, kind: str) -> Path:
    """An idx file of MNIST, unpacked or else gzipped. Raises DataError if there is neither."""
    plain = root / IMAGES / f"{file}-{kind}-ubyte"
    for path in (plain, plain.with_name(f"{plain.name}.gz")):
        if path.is_file():
            return path
    raise DataError(f"{plain}[.gz] is missing.")


def read_images(root: Path, file: MNISTFile, pairs: Sequence[Pair]) -> np.ndarray:
    """The images that belong to these pairs: in the file's order, each digit's first of `train`, its last of `t10k`.

    Returns:
        uint8 [pairs, 28, 28].

    Raises:
        DataError: naming the file that is missing, broken, or has too few images of a digit.
    """
    image_file, label_file = find_idx(root, file, "images-idx3"), find_idx(root, file, "labels-idx1")
    images, labels = read_idx(image_file, 3), read_idx(label_file, 1)
    if images.shape[1:] != (28, 28):
        raise DataError(f"{image_file} has images of {images.shape[1]}×{images.shape[2]} pixels; MNIST's have 28×28.")
    if len(images) != len(labels):
        raise DataError(f"{image_file} has {len(images):,} images, but {label_file} has {len(labels):,} labels.")
    if labels.max(initial=0) >= DIGITS:
        raise DataError(f"{label_file} has a label {labels.max()}; MNIST's are 0 to 9.")
    digits, rows = np.array([pair.digit for pair in pairs]), np.empty(len(pairs), np.int64)
    for digit in range(DIGITS):
        wanted, there = np.flatnonzero(digits == digit), np.flatnonzero(labels == digit)
        if len(there) < len(wanted):
            raise DataError(f"{label_file} has {len(there)} images of the digit {digit}; {len(wanted)} are needed.")
        rows[wanted] = there[: len(wanted)] if file == "train" else there[len(there) - len(wanted) :]
    return images[rows]


def missing_files(root: Path, pairs: Iterable[Pair]) -> Iterator[Path]:
    """Files without which the pairs are not whole."""
    for file, kind in itertools.product(get_args(MNISTFile), ("images-idx3", "labels-idx1")):
        try:
            find_idx(root, file, kind)
        except DataError:
            yield root / IMAGES / f"{file}-{kind}-ubyte[.gz]"
    for pair in pairs:
        path = root / RECORDINGS / f"{pair.id}.wav"
        if not path.is_file():
            yield path


def _problem(read: Callable[..., Any], *args: Any) -> Iterator[str]:
    try:
        read(*args)
    except DataError as error:
        yield str(error)


class AVMNISTSource:
    """Samples of one split.

    Args:
        recordings: folder of the WAV files.
        pairs: in the order of the samples.
        images: uint8 [pairs, 28, 28].
        heard: indices of the samples whose audio is available.
    """

    def __init__(self, recordings: Path, pairs: Sequence[Pair], images: np.ndarray, heard: Iterable[int]) -> None:
        self.recordings, self.pairs, self.images, self.heard = recordings, pairs, images, frozenset(heard)

    def __len__(self) -> int:
        return len(self.pairs)

    def load(self, index: int, rng: np.random.Generator | None) -> Sample:
        """See :class:`~datamodules.loading.Source`. There is no augmentation in this line of papers."""
        pair, heard = self.pairs[index], index in self.heard
        # One silent sample is the least that front ends can read; its length tells nothing of the absent recording.
        audio = read_recording(self.recordings / f"{pair.id}.wav") if heard else torch.zeros(1)
        return {
            "modalities": {"image": torch.from_numpy(self.images[index, None] / np.float32(255)), "audio": audio},
            "sample_rate": {"audio": SAMPLE_RATE},
            "present": {"image": torch.tensor(True), "audio": torch.tensor(heard)},
            "label": torch.tensor(pair.digit),
            "id": pair.id,
        }


class AVMNIST(ZooDataModule):
    """Audiovision-MNIST: 1,500 pairs of a written and a spoken digit (SMIL, AAAI 2021; ShaSpec, CVPR 2023, table 3).

    Batch: :class:`~datamodules.batch.AVClassification`, `image` [B, 1, 28, 28] and `audio` [B, T] at 8 kHz.

    `root` holds `MNIST/raw/*-ubyte[.gz]` as torchvision lays it out, and `free-spoken-digit-dataset/recordings/*.wav`
    as the repository of that name does.

    The pairing is a rule of the files' own numbers. Recordings 0-14 of each digit and speaker are for testing, as in
    SMIL, and go with the last images of their digit in MNIST's test file; all others, in ascending order of
    recordings, go with the first images of their digit in MNIST's training file. So no image is in two splits, and
    both ways to split have the same pairs. Prediction reads the test split.

    Args:
        pairing: "paper": speakers jackson, nicolas and theo, 1,500 pairs. "large": all six, 3,000 pairs. Demo data
            has the three speakers, and both take it whole.
        split: "train_val_test": 900, 150 and 450 pairs, the ratio said to be ShaSpec's (not verified). "smil": 1,050
            and 450, and no validation: a monitor of a validation metric then has nothing to watch.
        audio_share: share of the training samples whose audio is available, in [0, 1]: a subset fixed by the run's
            seed, spread evenly over digits and speakers; a smaller share is part of a larger one. Validation and test
            samples have both modalities.
        meta_share: share of the training pairs whose audio is available, in [0, 1], rounded up: spread in the same way,
            they are kept from training and make up the split `meta`.
        download: bring the files that are missing under `root` or not the published ones, about 30 MB, before reading;
            nothing with `demo`.
        **base: see :class:`~datamodules.base.ZooDataModule`.
    """

    name: ClassVar[str] = "avmnist"
    task: ClassVar[str] = "av_classification"
    num_classes: ClassVar[int] = DIGITS
    splits: ClassVar[tuple[Split, ...]] = (*ZooDataModule.splits, "meta")
    downloadable: ClassVar[bool] = True

    def __init__(
        self,
        *,
        pairing: Pairing = "paper",
        split: Splitting = "train_val_test",
        audio_share: float = 1.0,
        meta_share: float = 0.0,
        download: bool = False,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        if pairing not in SPEAKERS:
            raise unknown("pairing", pairing, SPEAKERS)
        if split not in get_args(Splitting):
            raise unknown("split", split, get_args(Splitting))
        for name, share in {"audio_share": audio_share, "meta_share": meta_share}.items():
            if not 0 <= share <= 1:
                raise RecipeError(f"data.{name} is {share}; it is a share, from 0 to 1.")
        self.pairing, self.split, self.audio_share, self.download = pairing, split, audio_share, download
        self.meta_share = meta_share
        self._sources: dict[tuple[Split, int], AVMNISTSource] = {}

    def prepare_data(self) -> None:
        if self.download and not self.demo:
            self._check_task()
            from datamodules.avmnist_download import download

            download(self.root)
        super().prepare_data()

    def val_dataloader(self) -> Loader | list[Loader]:
        return [] if self.split == "smil" else super().val_dataloader()

    def source(self, split: Split) -> AVMNISTSource:
        key = split, global_seed()
        if key not in self._sources:
            self._sources[key] = self._read(*key)
        return self._sources[key]

    def _read(self, split: Split, seed: int) -> AVMNISTSource:
        pairs = pairs_under(self.root, self.pairing)
        if missing := list(missing_files(self.root, pairs)):
            raise DataError(
                f"AVMNIST: {len(missing):,} of {len(pairs) + 4:,} files are missing under {self.root} (first: "
                f"{missing[0].relative_to(self.root)}). `zoo data check {self.name} {self.root}` lists all, "
                "--data.download=true brings them."
            )
        if self.split == "smil":
            pairs = [replace(pair, part="train") if pair.part == "val" else pair for pair in pairs]
        part = {"predict": "test", "meta": "train"}.get(split, split)
        file = "t10k" if part == "test" else "train"
        candidates = [pair for pair in pairs if pair.file == file]
        kept = [index for index, pair in enumerate(candidates) if pair.part == part]
        chosen, images = [candidates[index] for index in kept], read_images(self.root, file, candidates)[kept]
        heard: Sequence[int] = range(len(chosen))
        if part == "train":
            heard = order_of_audio(chosen, seed)[: round(self.audio_share * len(chosen))]
            held = {*heard[: math.ceil(self.meta_share * len(heard))]}
            mine = sorted(held if split == "meta" else {*range(len(chosen))} - held)
            chosen, images, loud = [chosen[index] for index in mine], images[mine], {*heard}
            heard = [place for place, index in enumerate(mine) if index in loud]
        return AVMNISTSource(self.root / RECORDINGS, chosen, images, heard)

    @classmethod
    def check(cls, root: Path) -> Iterator[str]:
        if not root.is_dir():
            yield f"{root} is missing."
            return
        try:
            pairs = pairs_under(root, "large")
        except DataError as error:
            yield str(error)
            return
        missing = dict.fromkeys(missing_files(root, pairs))
        yield from (f"{path} is missing." for path in missing)
        for file in get_args(MNISTFile):
            if not any(path.name.startswith(file) for path in missing):
                yield from _problem(read_images, root, file, [pair for pair in pairs if pair.file == file])
        for pair in pairs:
            path = root / RECORDINGS / f"{pair.id}.wav"
            if path not in missing:
                yield from _problem(read_recording, path)

    @classmethod
    def write_demo(cls, root: Path, samples: int) -> None:
        from datamodules.demo.avmnist import write_demo

        write_demo(root, make_demo_pairs(samples))
