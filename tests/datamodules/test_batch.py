from typing import Annotated, NotRequired, get_args, get_origin, get_type_hints, is_typeddict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.batch import TASKS, Array, check_batch, collate
from zoo.core.errors import DataError, UnknownNameError

SIZES = {"B": 3, "H": 5, "W": 7, "P": 11, "T": 13}


def _example(hint, optional: bool):
    if get_origin(hint) is NotRequired:
        hint = get_args(hint)[0]
    if get_origin(hint) is Annotated:
        asked: Array = hint.__metadata__[0]
        return torch.zeros([_size(name) for name in asked.shape.split()]).to(asked.dtype)
    if is_typeddict(hint):
        return make_batch(hint, optional)
    if get_origin(hint) is list:
        return [f"case{i}" for i in range(SIZES["B"])]
    if get_origin(hint) is dict:
        return {name: _example(get_args(hint)[1], optional) for name in ("audio", "video")}
    return 16000


def _size(name: str) -> int:
    return int(name.split("|")[0]) if name[0].isdigit() else SIZES.get(name, 2)


def make_batch(contract, optional: bool = True) -> dict:
    """A batch that keeps the contract, made from its hints."""
    hints = get_type_hints(contract, include_extras=True)
    wanted = {name: hint for name, hint in hints.items() if optional or get_origin(hint) is not NotRequired}
    batch = {name: _example(hint, optional) for name, hint in wanted.items()}
    if "present" in batch:
        flag = batch["present"]["audio"]
        batch["present"] = dict.fromkeys(batch["modalities"], flag)
    for key in ("lengths", "sample_rate"):
        batch.get(key, {}).pop("video", None)
    return batch


def av_mnist(**changes) -> dict:
    batch = {
        "modalities": {"image": torch.rand(4, 1, 28, 28), "audio": torch.rand(4, 100)},
        "present": {"image": torch.ones(4, dtype=torch.bool), "audio": torch.zeros(4, dtype=torch.bool)},
        "lengths": {"audio": torch.tensor([100, 80, 0, 3])},
        "sample_rate": {"audio": 8000},
        "label": torch.tensor([1, 2, 3, 4]),
        "index": torch.arange(4),
        "id": ["a", "b", "c", "d"],
    }
    return batch | changes


@pytest.mark.parametrize("optional", [True, False])
@pytest.mark.parametrize("task", TASKS)
def test_batch_that_keeps_its_contract_passes(task, optional):
    check_batch(make_batch(TASKS[task], optional), task)


@pytest.mark.parametrize("task", TASKS)
def test_every_required_key_is_missed_and_only_targets_not_when_predicting(task):
    hints = get_type_hints(TASKS[task], include_extras=True)
    for key, hint in hints.items():
        batch = make_batch(TASKS[task])
        del batch[key]
        if get_origin(hint) is NotRequired:
            check_batch(batch, task)
            continue
        with pytest.raises(DataError, match=f"{task}: {key}"):
            check_batch(batch, task)
        if get_origin(hint) is Annotated and hint.__metadata__[0].target:
            check_batch(batch, task, predict=True)
        else:
            with pytest.raises(DataError, match=key):
                check_batch(batch, task, predict=True)


@pytest.mark.parametrize("task", TASKS)
def test_every_tensor_of_another_dtype_or_shape_is_named(task):
    for key, value in make_batch(TASKS[task]).items():
        if isinstance(value, torch.Tensor):
            for wrong in (value.to(torch.complex64), value.unsqueeze(0), value.numpy()):
                with pytest.raises(DataError, match=f"{task}: {key} should be"):
                    check_batch(make_batch(TASKS[task]) | {key: wrong}, task)


def test_av_mnist_as_the_contract_writes_it_passes():
    check_batch(av_mnist(), "av_classification")


def test_message_holds_key_expected_and_actual():
    batch = av_mnist(label=torch.zeros(3))
    with pytest.raises(DataError, match=r"label should be int64 \[B\] with B = 4, is float32 \[3\]"):
        check_batch(batch, "av_classification")
    batch["modalities"]["image"] = torch.zeros(4, 2, 28, 28)
    with pytest.raises(DataError, match=r"modalities.image should be float32 \[B, 1\|3, H, W\].* \[4, 2, 28"):
        check_batch(batch, "av_classification")


def test_sizes_of_one_name_must_agree_over_keys():
    with pytest.raises(DataError, match=r"label should be int64 \[B\] with B = 4, is int64 \[5\]"):
        check_batch(av_mnist(label=torch.arange(5)), "av_classification")
    with pytest.raises(DataError, match="id should be a list of 4 strings"):
        check_batch(av_mnist(id=["a"]), "av_classification")


def test_batch_within_a_batch_has_sizes_of_its_own_and_no_targets():
    batch = make_batch(TASKS["lidar_segmentation"])
    for key in ("point_features", "voxel_coord", "pixel_coord"):
        batch["unlabelled"][key] = batch["unlabelled"][key][:4]
    check_batch(batch, "lidar_segmentation")
    batch["unlabelled"]["pixel_coord"] = batch["unlabelled"]["pixel_coord"][:3]
    with pytest.raises(DataError, match=r"unlabelled.pixel_coord should be int64 \[P, 3\] with P = 4"):
        check_batch(batch, "lidar_segmentation")


def test_presence_and_lengths_name_the_modalities():
    flags = torch.ones(4, dtype=torch.bool)
    with pytest.raises(DataError, match=r"present names \['image'\], modalities names \['audio', 'image'\]"):
        check_batch(av_mnist(present={"image": flags}), "av_classification")
    with pytest.raises(DataError, match="lengths names"):
        check_batch(av_mnist(lengths={}), "av_classification")


def test_unknown_task_gets_near_misses():
    with pytest.raises(UnknownNameError, match="av_classification"):
        check_batch({}, "av_clasification")


def sample(position: int, length: int = 10, **changes) -> dict:
    audio = torch.arange(length, dtype=torch.float32) + 1
    return {
        "modalities": {"image": torch.full((1, 2, 2), float(position)), "audio": audio},
        "present": {"image": True, "audio": position % 2 == 0},
        "sample_rate": {"audio": 8000},
        "label": position,
        "index": torch.tensor(position),
        "id": f"case{position}",
    } | changes


@given(st.lists(st.integers(0, 30), min_size=1, max_size=6), st.sampled_from([(), (2,)]))
@settings(max_examples=25, deadline=None)
def test_collate_pads_waveforms_with_zeros_and_notes_lengths(lengths, channels):
    samples = [sample(i, length) for i, length in enumerate(lengths)]
    for one in samples:
        one["modalities"]["audio"] = one["modalities"]["audio"].expand(*channels, -1)
    batch = collate(samples)
    assert batch["lengths"]["audio"].tolist() == lengths
    assert batch["lengths"]["audio"].dtype == torch.int64
    audio = batch["modalities"]["audio"]
    assert audio.shape == (len(lengths), *channels, max(lengths))
    for row, one, length in zip(audio, samples, lengths, strict=True):
        assert torch.equal(row[..., :length], one["modalities"]["audio"])
        assert not row[..., length:].any()


def test_collated_samples_keep_the_contract():
    samples = [sample(i, 5 + i) for i in range(3)]
    batch = collate(samples)
    check_batch(batch, "av_classification")
    assert batch["sample_rate"] == {"audio": 8000}
    assert batch["id"] == ["case0", "case1", "case2"]
    assert batch["present"]["audio"].tolist() == [True, False, True]
    assert "lengths" not in samples[0]
    assert samples[0]["modalities"]["audio"].shape == (5,)


def test_collate_goes_into_dictionaries():
    partner = {"image": torch.ones(3, 2, 2), "id": "other", "index": 7}
    batch = collate([{"image": torch.zeros(3, 2, 2), "weight": 0.5, "partner": partner}] * 2)
    assert batch["partner"]["image"].shape == (2, 3, 2, 2)
    assert batch["partner"]["id"] == ["other", "other"]
    assert batch["partner"]["index"].dtype == torch.int64
    assert batch["weight"].dtype == torch.float32


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sample_rate": {"audio": 16000}}, r"case0 and case1 differ in sample_rate: .*8000.*16000"),
        ({"label": torch.tensor(1)}, "differ in type of label"),
        ({"modalities": {"image": torch.zeros(1, 2, 3), "audio": torch.zeros(1)}}, r"modalities.image: .*2, 3\]"),
        ({"modalities": {"audio": torch.zeros(1)}}, "keys of modalities"),
        ({"extra": 1}, "keys of the sample"),
    ],
)
def test_collate_names_samples_that_disagree(changes, message):
    with pytest.raises(DataError, match=message):
        collate([sample(0), sample(1) | changes])


def test_collate_refuses_what_is_no_batch_entry():
    with pytest.raises(DataError, match="case0: label is set"):
        collate([sample(0, label={1, 2})])
