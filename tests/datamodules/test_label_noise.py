import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.label_noise import (
    asymmetric_noise,
    fingerprint,
    instance_noise,
    kept_labels,
    symmetric_noise,
    transition_counts,
    transition_matrix,
)
from zoo.core.errors import DataError

LABELS = torch.arange(2000) % 10


def pixels(count: int = 2000, dim: int = 12) -> torch.Tensor:
    return torch.randint(256, (count, dim), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@settings(max_examples=20, deadline=None)
@given(rate=st.floats(0, 1), classes=st.integers(2, 30), seed=st.integers(0, 1000))
def test_symmetric_noise_draws_a_label_for_just_that_share(rate, classes, seed):
    labels = torch.full((300,), classes)  # none of the drawn ones, so that each draw shows
    noisy = symmetric_noise(labels, classes, rate, random.Random(seed))
    drawn = noisy[noisy != classes]
    assert len(drawn) == int(rate * 300)
    assert ((drawn >= 0) & (drawn < classes)).all()


def test_asymmetric_noise_maps_that_share_and_leaves_classes_that_map_to_themselves():
    noisy = asymmetric_noise(LABELS, (1, *range(1, 10)), 0.5, random.Random(0))
    assert 80 < (noisy[LABELS == 0] == 1).sum() < 120
    assert torch.equal(noisy[LABELS != 0], LABELS[LABELS != 0])


def test_instance_noise_has_its_rate_and_one_wrong_label_per_image():
    found = instance_noise(pixels(), LABELS, 10, 0.4, np.random.RandomState(0))
    assert (found.labels != LABELS).double().mean() == pytest.approx(0.4, abs=0.03)
    assert found.flip_rates.mean() == pytest.approx(0.4, abs=0.01)
    assert found.flip_rates.std() == pytest.approx(0.1, abs=0.01)
    others = found.probabilities.scatter(1, LABELS[:, None], 0)
    assert (others.amax(1) / others.sum(1)).median() > 0.999
    torch.testing.assert_close(found.probabilities.sum(1), torch.ones(2000, dtype=torch.float64))


def test_instance_noise_depends_on_the_image_and_the_seed():
    draw = lambda images, seed: instance_noise(images, LABELS, 10, 0.4, np.random.RandomState(seed)).labels  # noqa: E731
    first = draw(pixels(), 0)
    assert torch.equal(first, draw(pixels(), 0))
    assert not torch.equal(first, draw(pixels(), 1))
    assert not torch.equal(first, draw(255 - pixels(), 0))


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_extreme_rates_keep_flip_rates_in_bounds(rate):
    found = instance_noise(pixels(), LABELS, 10, rate, np.random.RandomState(0))
    assert ((found.flip_rates >= 0) & (found.flip_rates <= 1)).all()
    assert found.flip_rates.mean() == pytest.approx(rate + 0.08 * (1 - 2 * rate), abs=0.01)


def test_transitions_are_counted_from_true_to_given():
    clean, noisy = torch.tensor([0, 0, 0, 2]), torch.tensor([0, 1, 1, 2])
    assert transition_counts(clean, noisy, 3).tolist() == [[1, 2, 0], [0, 0, 0], [0, 0, 1]]
    torch.testing.assert_close(transition_matrix(clean, noisy, 3)[0].tolist(), [1 / 3, 2 / 3, 0.0])
    assert transition_matrix(clean, noisy, 3)[1].tolist() == [0, 0, 0]


def test_fingerprints_tell_values_shapes_and_order_apart():
    a, b = np.arange(4), np.arange(4).reshape(2, 2)
    assert fingerprint(a) == fingerprint(torch.arange(4))
    assert len({fingerprint(x) for x in (a, b, a + 1, a.astype(np.uint8))}) == 4
    assert fingerprint(a, b) != fingerprint(b, a)


# -- kept labels -----------------------------------------------------------------------------------------------------


def never() -> torch.Tensor:
    pytest.fail("labels were drawn anew")


def test_labels_are_drawn_once_and_used_again(tmp_path):
    path = tmp_path / "folder" / "labels.safetensors"
    assert torch.equal(kept_labels(path, "data", 10, 2000, lambda: LABELS), LABELS)
    assert torch.equal(kept_labels(path, "data", 10, 2000, never), LABELS)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_labels_drawn_for_other_data_are_refused(tmp_path):
    path = tmp_path / "labels.safetensors"
    kept_labels(path, "data", 10, 2000, lambda: LABELS)
    with pytest.raises(DataError, match=r"labels\.safetensors holds labels that were drawn for other images"):
        kept_labels(path, "other data", 10, 2000, never)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda b: b[:100], r"labels\.safetensors .*broken.* Delete it"),
        (lambda b: b[:-1] + b"\x01", "is not what was written there"),
        (lambda b: b"cos\nsystem\n(S'true'\ntR.", "is broken"),
    ],
)
def test_a_file_that_was_changed_is_refused(tmp_path, change, said):
    path = tmp_path / "labels.safetensors"
    kept_labels(path, "data", 10, 2000, lambda: LABELS)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=said):
        kept_labels(path, "data", 10, 2000, never)


@pytest.mark.parametrize(
    ("classes", "count", "said"),
    [(5, 2000, "should be 0 to 4; that of sample 5 is 5"), (10, 1999, "should be 1,999, and there are 2000")],
)
def test_kept_labels_must_fit(tmp_path, classes, count, said):
    path = tmp_path / "labels.safetensors"
    kept_labels(path, "data", 10, 2000, lambda: LABELS)
    with pytest.raises(DataError, match=said):
        kept_labels(path, "data", classes, count, never)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"labels\.safetensors cannot be written: .*Drawn labels are kept there"):
        kept_labels(tmp_path / "file" / "labels.safetensors", "data", 10, 2000, lambda: LABELS)
