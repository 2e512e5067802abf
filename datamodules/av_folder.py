"""Image and sound files of one's own, listed in a CSV for training, or just lying in a folder for prediction."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from datamodules.avmnist import SAMPLE_RATE
from datamodules.loading import Sample
from datamodules.media import SIDE, read_image, read_sound
from datamodules.own_data import OwnData
from datamodules.sample_list import Row


class AVFolderSource:
    """Samples of one split.

    Args:
        rows: in the order of the samples.
        classes: names of the classes; without, samples have no label.
    """

    def __init__(self, rows: Sequence[Row], classes: Sequence[str] = ()) -> None:
        self.rows, self.numbers = rows, {name: number for number, name in enumerate(classes)}

    def __len__(self) -> int:
        return len(self.rows)

    def load(self, index: int, rng: np.random.Generator | None) -> Sample:
        """See :class:`~datamodules.loading.Source`. There is no augmentation."""
        row = self.rows[index]
        image = read_image(row.image) if row.image else torch.zeros(1, SIDE, SIDE)
        audio = read_sound(row.audio) if row.audio else torch.zeros(1)  # the least that front ends can read
        sample = {
            "modalities": {"image": image, "audio": audio},
            "sample_rate": {"audio": SAMPLE_RATE},
            "present": {"image": torch.tensor(bool(row.image)), "audio": torch.tensor(bool(row.audio))},
            "id": row.id,
        }
        return sample | ({"label": torch.tensor(self.numbers[row.label])} if self.numbers else {})


class AVFolder(OwnData):
    """Data of one's own for classification from an image and a sound, either of which may be missing.

    Batch: :class:`~datamodules.batch.AVClassification`, `image` [B, 1, 28, 28] and `audio` [B, T] at 8 kHz: files are
    converted as :func:`~datamodules.media.read_image` and :func:`~datamodules.media.read_sound` say.

    A CSV lists the samples: `image,audio,label`, and if need be `split` (train, val or test) and `id` (else the path
    without its suffix). Paths are relative to `root` and lie below it; an empty cell is an absent modality. Labels are
    names or whole numbers; the sorted names are the classes, kept in checkpoints, and data with others are refused.
    Without a column `split`, samples are split by a rule of (seed, id), each class evenly: another seed tests on what
    was trained on.

    Without a CSV there is only prediction: of all png, jpg and wav files that lie in `root`, paired by their names,
    in the order of these. With one, prediction reads the test split.

    Args: see :class:`~datamodules.own_data.OwnData`.
    """

    name: ClassVar[str] = "av_folder"
    task: ClassVar[str] = "av_classification"
    readers: ClassVar[Mapping[str, Callable[[Path], Any]]] = {"image": read_image, "audio": read_sound}

    def source_of(self, rows: Sequence[Row], classes: Sequence[str] = ()) -> AVFolderSource:
        return AVFolderSource(rows, classes)

    @classmethod
    def write_demo(cls, root: Path, samples: int) -> None:
        from datamodules.demo.av_folder import write_demo

        write_demo(root, samples)
