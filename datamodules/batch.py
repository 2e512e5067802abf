"""Batch contracts: what a data module hands to a model. One TypedDict per task; a recipe pairs equals only.

Common to all tasks:

- Signals are raw: waveforms in [-1, 1] zero-padded at the end, with their lengths in samples and their rate in Hz;
  images RGB or grey in [0, 1]. Front ends and normalisation of these belong to the model. Steps that need the whole
  volume or scan belong to the data.
- `modalities` holds the inputs by name, `present` says per sample which of them exist. What stands in an absent entry
  means nothing and must not reach the output.
- `mask` is per pixel or voxel, in uint8 since it is large; 255 is ignored. `label` is per sample or point.
- Targets (`label`, `mask`, …) may be missing when predicting. A data module may add keys of its own.

Shapes: B samples, F frames, N windows, A audio channels, T waveform samples, C classes, D×H×W voxels, H×W pixels,
P points.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, NotRequired, TypedDict, get_args, get_origin, get_type_hints, is_typeddict

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.core.errors import DataError
from zoo.core.names import unknown


@dataclass(frozen=True)
class Array:
    """What :func:`check_batch` asks of a tensor.

    `shape` holds sizes separated by spaces: a number, alternatives (`1|3`), or a name, which stands for the same size
    wherever it occurs in the batch. A `target` may be missing in predict batches.
    """

    dtype: torch.dtype
    shape: str
    target: bool = False

    def __str__(self) -> str:
        return _described(self.dtype, self.shape.split())


def _described(dtype: torch.dtype, sizes: Iterable[Any]) -> str:
    return f"{str(dtype).removeprefix('torch.')} [{', '.join(map(str, sizes))}]"


PerSample = Annotated[Tensor, Array(torch.int64, "B")]
Flag = Annotated[Tensor, Array(torch.bool, "B")]
Image = Annotated[Tensor, Array(torch.float32, "B 1|3 H W")]


class Batch(TypedDict):
    """Part of every batch.

    `index`: position in the split's data set; what is remembered per sample is keyed by it.
    `id`: file or case name, for messages and predictions.
    """

    index: PerSample
    id: list[str]


class ImageAndAudio(TypedDict):
    image: Image
    audio: Annotated[Tensor, Array(torch.float32, "B T")]


class AVClassification(Batch):
    """One of C classes from an image and a sound, either of which may be absent (AV-MNIST: 28×28 grey, 8 kHz).

    `lengths`: of each waveform before padding. `sample_rate`: in Hz. `label`: class index.
    """

    modalities: ImageAndAudio
    present: dict[str, Flag]
    lengths: dict[str, PerSample]
    sample_rate: dict[str, int]
    label: Annotated[Tensor, Array(torch.int64, "B", target=True)]


class VolumeSegmentation(Batch):
    """Overlapping regions R of a volume seen by several scanners' sequences (BraTS: flair, t1, t1ce, t2).

    `modalities`: normalised over the whole volume, 0 outside the brain; axes depth (slices), height, width. Training
    gives crops, evaluation whole volumes. `mask`: 0 or 1 per region (BraTS: ET, WT, TC). Of whole volumes, `affine`:
    voxel (height, width, depth) to millimetres; `reference`: the NIfTI file whose header a prediction takes over.
    """

    modalities: dict[str, Annotated[Tensor, Array(torch.float32, "B 1 D H W")]]
    present: dict[str, Flag]
    mask: Annotated[Tensor, Array(torch.uint8, "B R D H W", target=True)]
    affine: NotRequired[Annotated[Tensor, Array(torch.float64, "B 4 4")]]
    reference: NotRequired[list[str]]


class VideoAndAudio(TypedDict):
    video: Annotated[Tensor, Array(torch.float32, "B F 3 H W")]
    audio: Annotated[Tensor, Array(torch.float32, "B 1|2 T")]


class AVSegmentation(Batch):
    """The pixels that sound, in the frames of a clip (AVSBench S4, MS3, AVSS) or in one image (VPO; F = 1).

    `audio`: the span that the frames cover, mono or stereo. `valid`: whether a frame exists or pads a shorter clip.
    `annotated`: whether `mask` was drawn for a frame. `mask`: class index, 0 background; 0 and 1 where the data set
    has no classes. `size`: height and width of the files, in which predictions are written.
    """

    modalities: VideoAndAudio
    present: dict[str, Flag]
    lengths: dict[str, PerSample]
    sample_rate: dict[str, int]
    valid: Annotated[Tensor, Array(torch.bool, "B F")]
    size: Annotated[Tensor, Array(torch.int64, "B 2")]
    annotated: Annotated[Tensor, Array(torch.bool, "B F", target=True)]
    mask: Annotated[Tensor, Array(torch.uint8, "B F H W", target=True)]


class ReferringAVSegmentation(AVSegmentation):
    """The pixels of the object that a sentence names (Ref-AVS); an empty mask if there is none in the clip.

    `expression`: the sentence, one per sample.
    """

    expression: list[str]


class FramesAndAudio(TypedDict):
    video: Annotated[Tensor, Array(torch.float32, "B F 3 H W")]
    audio: Annotated[Tensor, Array(torch.float32, "B T")]


class BinauralAudio(Batch):
    """Two-ear sound from one-channel sound and video (FAIR-Play, MUSIC-Stereo, YT-Clean).

    `audio`: left + right, so in [-2, 2]; a recording with one channel counts as both ears' sound. `video`: the F
    distinct frames that the windows see, in their order; `frame_number`: of each, as its file has it. `window_start`:
    first sample of each of N windows; `window_frame`: which of the F frames belongs to it. `stereo`: left, right.

    Training gives one window, which is the whole waveform, and two frames, the previous one and its own. Evaluation
    gives one whole clip per batch and all windows; the last ones may reach beyond its end, where zeros belong.

    Prediction gives clips in pieces, and per piece: `piece`: its number, and the pieces of the clip, which all have
    its `id`. `source`: what `audio` was made of, at its own rate, `source_rate` in Hz; both begin at once. `keep`:
    the piece's own samples of `source`, first and end; what is around them belongs to the pieces beside it.
    """

    modalities: FramesAndAudio
    present: dict[str, Flag]
    lengths: dict[str, PerSample]
    sample_rate: dict[str, int]
    frame_number: Annotated[Tensor, Array(torch.int64, "B F")]
    window_start: Annotated[Tensor, Array(torch.int64, "B N")]
    window_frame: Annotated[Tensor, Array(torch.int64, "B N")]
    stereo: Annotated[Tensor, Array(torch.float32, "B 2 T", target=True)]
    piece: NotRequired[Annotated[Tensor, Array(torch.int64, "B 2")]]
    source: NotRequired[Annotated[Tensor, Array(torch.float32, "B S")]]
    source_rate: NotRequired[PerSample]
    keep: NotRequired[Annotated[Tensor, Array(torch.int64, "B 2")]]


class ImageClassification(Batch):
    """One of C classes from an image: fine-grained sets (CUB, Cars, Dogs, Pets) and sets with wrong labels (CIFAR-N).

    `label`: as given, so possibly wrong; -1 for images of no class (out of distribution). `clean_label`: the true
    one where it is known, for analysis alone. For measures of interpretability: `parts`: x, y in pixels of the file
    and 1 if visible else 0; `object_mask`: 1 on the object; `size`: height and width of the file.
    """

    image: Image
    label: Annotated[Tensor, Array(torch.int64, "B", target=True)]
    clean_label: NotRequired[PerSample]
    parts: NotRequired[Annotated[Tensor, Array(torch.float32, "B Q 3")]]
    object_mask: NotRequired[Annotated[Tensor, Array(torch.uint8, "B H W")]]
    size: NotRequired[Annotated[Tensor, Array(torch.int64, "B 2")]]


class LabelledViews(Batch):
    """`second_view`: the same image, same geometry, other colours. `label`: 0 or 1 per class."""

    image: Image
    second_view: NotRequired[Image]
    label: Annotated[Tensor, Array(torch.float32, "B C", target=True)]


class MultiLabelClassification(LabelledViews):
    """Any of C findings, "normal" being the last class (ChestX-ray14, ODIR).

    `partner`: per sample another image that shares a label, for methods that train on pairs. `boxes`: class, x, y,
    width, height in pixels of the file, at most K per image, unused rows -1; `size`: height and width of the file.
    """

    partner: NotRequired[LabelledViews]
    boxes: NotRequired[Annotated[Tensor, Array(torch.float32, "B K 5")]]
    size: NotRequired[Annotated[Tensor, Array(torch.int64, "B 2")]]


class LidarScans(Batch):
    """Scans in two views. Points of all scans are concatenated, P in all; the first column of coordinates is the scan.

    `point_features`: offsets to the voxel's centre (rho, phi, z), rho, phi, z, x, y, intensity; metres, radians.
    `voxel_coord`: scan, rho, phi, z bin. `pixel_coord`: scan, column, row. `offset`: points up to the end of each
    scan. `range_image`: x, y, z, intensity, distance in the plane, occupied; metres.
    """

    point_features: Annotated[Tensor, Array(torch.float32, "P 9")]
    voxel_coord: Annotated[Tensor, Array(torch.int64, "P 4")]
    pixel_coord: Annotated[Tensor, Array(torch.int64, "P 3")]
    offset: PerSample
    range_image: Annotated[Tensor, Array(torch.float32, "B 6 H W")]


class LidarSegmentation(LidarScans):
    """A class for each point of a sweep, 0 ignored (SemanticKITTI, ScribbleKITTI, nuScenes-lidarseg).

    `label`: per point; `range_label`: of the point that owns the pixel; `voxel_label`: most frequent in the voxel;
    both 0 where there is no point. `unlabelled`: as many more scans, in semi-supervised training.
    """

    label: Annotated[Tensor, Array(torch.int64, "P", target=True)]
    range_label: Annotated[Tensor, Array(torch.uint8, "B H W", target=True)]
    voxel_label: Annotated[Tensor, Array(torch.uint8, "B Rho Phi Z", target=True)]
    unlabelled: NotRequired[LidarScans]


TASKS: dict[str, type] = {
    "av_classification": AVClassification,
    "volume_segmentation": VolumeSegmentation,
    "av_segmentation": AVSegmentation,
    "referring_av_segmentation": ReferringAVSegmentation,
    "binaural_audio": BinauralAudio,
    "image_classification": ImageClassification,
    "multi_label_classification": MultiLabelClassification,
    "lidar_segmentation": LidarSegmentation,
}


def check_batch(batch: dict[str, Any], task: str, *, predict: bool = False) -> None:
    """Check a batch against its task's contract: keys, dtypes, shapes. For tests, and for the first batch of a run.

    Args:
        batch: what a data module gave.
        task: key of :data:`TASKS`.
        predict: whether targets may be missing.

    Raises:
        DataError: naming the first key that is wrong, what it should be and what it is.
        UnknownNameError: if there is no such task.
    """
    if task not in TASKS:
        raise unknown("task", task, TASKS)
    for problem in _problems(batch, TASKS[task], "", {}, predict):
        raise DataError(f"Batch of task {task}: {problem}")


def _problems(value: Any, hint: Any, key: str, sizes: dict[str, int], predict: bool) -> Iterator[str]:
    if get_origin(hint) is Annotated:
        yield from _tensor_problems(value, hint.__metadata__[0], key, sizes)
    elif get_origin(hint) is list:
        if not isinstance(value, list) or len(value) != sizes["B"] or not all(isinstance(v, str) for v in value):
            yield f"{key} should be a list of {sizes['B']} strings, is {str(value)[:80]}."
    elif not isinstance(value, get_origin(hint) or (dict if is_typeddict(hint) else hint)):
        yield f"{key or 'it'} should be {getattr(hint, '__name__', hint)}, is {type(value).__name__}."
    elif is_typeddict(hint):
        yield from _key_problems(value, hint, f"{key}." if key else "", sizes, predict)
    elif get_origin(hint) is dict:
        for name, item in value.items():
            yield from _problems(item, get_args(hint)[1], f"{key}.{name}", sizes, predict)


def _key_problems(batch: dict, contract: Any, prefix: str, sizes: dict[str, int], predict: bool) -> Iterator[str]:
    hints = get_type_hints(contract, include_extras=True)
    if "index" in hints:  # a batch within a batch has sizes of its own
        sizes = {}
    for name, hint in hints.items():
        optional = get_origin(hint) is NotRequired
        hint = get_args(hint)[0] if optional else hint
        asked = hint.__metadata__[0] if get_origin(hint) is Annotated else None
        if name in batch:
            yield from _problems(batch[name], hint, f"{prefix}{name}", sizes, predict)
        elif not (optional or (predict and asked is not None and asked.target)):
            others = ", ".join(other for other in batch if other not in hints)
            yield f"{prefix}{name}{f', {asked},' if asked else ''} is missing; not in the contract: {others or 'none'}."
    for key, same in (("present", "modalities"), ("lengths", "sample_rate")):
        if key in hints and batch[key].keys() != batch[same].keys():
            yield f"{prefix}{key} names {sorted(batch[key])}, {prefix}{same} names {sorted(batch[same])}."


def _tensor_problems(value: Any, asked: Array, key: str, sizes: dict[str, int]) -> Iterator[str]:
    if not isinstance(value, Tensor):
        yield f"{key} should be {asked}, is {type(value).__name__}."
        return
    wanted = asked.shape.split()
    fits = value.dtype == asked.dtype and value.dim() == len(wanted)
    for size, want in zip(value.shape, wanted, strict=False):
        if want[0].isdigit():
            fits &= size in map(int, want.split("|"))
        elif fits:
            fits &= size == sizes.setdefault(want, size)
    if not fits:
        known = ", ".join(f"{want} = {sizes[want]}" for want in dict.fromkeys(wanted) if want in sizes)
        yield f"{key} should be {asked}{f' with {known}' if known else ''}, is {_described(value.dtype, value.shape)}."


def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Make a batch of samples, each of which is one entry of a batch without its B axis.

    Tensors are stacked, numbers become tensors, strings lists; dictionaries are collated entry by entry. The
    modalities named in `sample_rate` are waveforms [..., T]: they are zero-padded to the longest, `lengths` is added,
    and `sample_rate` stays one number each.

    Raises:
        DataError: naming the entry and the sample, if samples differ in keys, shapes, dtypes or sample rates.
    """
    ids = [str(sample.get("id", position)) for position, sample in enumerate(samples)]
    return _collate(samples, ids, "")


def _collate(samples: list[dict[str, Any]], ids: list[str], prefix: str) -> dict[str, Any]:
    _agree([sorted(sample) for sample in samples], ids, f"keys of {prefix or 'the sample'}")
    if "sample_rate" in samples[0]:
        samples = _padded(samples)
    batch: dict[str, Any] = {}
    for name in samples[0]:
        values, key = [sample[name] for sample in samples], f"{prefix}{name}"
        _agree([type(value).__name__ for value in values], ids, f"type of {key}")
        match values[0]:
            case dict() if name == "sample_rate":
                _agree(values, ids, key)
                batch[name] = values[0]
            case dict():
                batch[name] = _collate(values, ids, f"{key}.")
            case str():
                batch[name] = values
            case bool() | int() | float():
                batch[name] = torch.tensor(values)
            case Tensor():
                _agree([_described(value.dtype, value.shape) for value in values], ids, key)
                batch[name] = torch.stack(values)
            case other:
                raise DataError(
                    f"Sample {ids[0]}: {key} is {type(other).__name__}; samples hold tensors, numbers, strings and "
                    "dictionaries of these."
                )
    return batch


def _agree(values: list[Any], ids: list[str], what: str) -> None:
    for value, sample in zip(values, ids, strict=True):
        if value != values[0]:
            raise DataError(f"Samples {ids[0]} and {sample} differ in {what}: {values[0]} and {value}.")


def _padded(samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    padded = [sample | {"modalities": dict(sample["modalities"]), "lengths": {}} for sample in samples]
    for name in samples[0]["sample_rate"]:
        longest = max(sample["modalities"][name].shape[-1] for sample in samples)
        for sample in padded:
            wave = sample["modalities"][name]
            sample["lengths"][name] = wave.shape[-1]
            sample["modalities"][name] = F.pad(wave, (0, longest - wave.shape[-1]))
    return padded
