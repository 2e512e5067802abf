"""Every registered loss obeys the signature that its kind documents."""

import inspect

import pytest
import torch
from torch import Tensor

import losses.kinds
from losses.registry import catalogue, find, kind_of
from losses.slots import LossSlots, Slot

B, C, M, N, D = 6, 4, 3, 40, 5


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def labels(n: int) -> Tensor:
    return torch.arange(n) % C


# Per kind: the calls that its signature allows; each is (what gets a gradient, further arguments, keywords).
CALLS = {
    "classification": [
        (randn(B, C), (labels(B),), {}),
        (randn(B, C), (labels(B),), {"index": torch.arange(B), "epoch": 2}),
        (randn(1, C), (labels(1),), {"index": torch.zeros(1, dtype=torch.long), "epoch": 0}),
    ],
    "candidate_labels": [
        (randn(B, C).log_softmax(1), (torch.eye(C)[labels(B)] / 2 + torch.eye(C)[0] / 2,), {}),
        (randn(1, C).log_softmax(1), (torch.full((1, C), 1 / C),), {}),
    ],
    "segmentation": [
        (randn(B, C, 8, 7), ((randn(B, C, 8, 7) > 0).float(),), {}),
        (randn(1, C, 4, 4, 4), (torch.zeros(1, C, 4, 4, 4),), {}),
    ],
    "alignment": [(randn(M, B, D), (), {}), (randn(2, B, 3, D), (), {}), (randn(M, 1, D), (), {})],
    "cross_modal_distillation": [
        (randn(M, B, D), (randn(M, M).abs(),), {}),
        (randn(M, B, 2, D), ((randn(M, M, B) > 0).float(),), {}),
        (randn(2, 1, D), (torch.zeros(2, 2),), {}),
    ],
    "distillation": [(randn(B, D), (randn(B, D) + 1,), {}), (randn(B, C, 4), (randn(B, C, 4) * 2,), {})],
    "embedding": [(randn(B, 32), (labels(B),), {})],
    "pixel_contrast": [(randn(N, D), (labels(N),), {})],
    "prototype": [(randn(B, C, 2).abs(), (labels(B),), {})],
    "spectrogram": [
        (randn(B, 2, 9, 7), (randn(B, 2, 9, 7).flip(0),), {}),
        (randn(B, 2, 2, 9, 7), (randn(B, 2, 2, 9, 7).flip(0),), {}),
    ],
    "triplet": [
        (randn(B, D), (randn(B, D).flip(0), randn(B, D).roll(1, 0)), {}),
        (randn(1, D), (randn(1, D) + 1, -randn(1, D)), {}),
    ],
}
PACKAGED = [entry.name for entry in catalogue.entries().values() if entry.target.startswith("losses.")]
ALL = [
    (name, number)
    for name in PACKAGED
    for number, (_, _, keywords) in enumerate(CALLS[kind_of(name)])
    if keywords.keys() >= {*catalogue.entry(name).facts.get("needs", [])}
]


def loss_module(name: str):
    """The loss in a slot, as methods call it, told the sizes that stateful ones need."""
    _, loss = find(name)
    needed = [
        p for p in inspect.signature(loss).parameters.values() if p.kind is p.KEYWORD_ONLY and p.default is p.empty
    ]
    if needed:
        pytest.skip(f"{name} has no defaults for {needed}; its own tests call it")
    slots = LossSlots({"slot": Slot(kind_of(name), name)})
    slots.setup_losses(num_samples=B, num_classes=C)
    return slots.slot


def test_every_kind_has_calls_here():
    assert CALLS.keys() == losses.kinds.KINDS.keys()


@pytest.mark.parametrize(("name", "number"), ALL)
def test_a_loss_gives_a_finite_scalar_with_finite_gradients(name, number):
    x, further, keywords = CALLS[kind_of(name)][number]
    x = x.clone().requires_grad_()
    value = loss_module(name)(x, *further, **keywords)
    assert value.shape == ()
    assert value.isfinite()
    value.backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize(("name", "number"), ALL)
def test_a_loss_leaves_its_arguments_alone(name, number):
    x, further, keywords = CALLS[kind_of(name)][number]
    before = [y.clone() for y in (x, *further)]
    loss_module(name)(x, *further, **keywords)
    for y, expected in zip((x, *further), before, strict=True):
        assert torch.equal(y, expected)


@pytest.mark.parametrize(("name", "number"), ALL)
def test_a_loss_is_computed_in_float32_under_autocast(name, number):
    x, further, keywords = CALLS[kind_of(name)][number]
    x = x.bfloat16()
    expected = loss_module(name)(x.float(), *further, **keywords)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss_module(name)(x, *further, **keywords)
    torch.testing.assert_close(found.float(), expected, rtol=1e-5, atol=1e-6)


def test_no_gradient_of_a_distillation_loss_reaches_the_teacher():
    student, (teacher,), _ = CALLS["distillation"][0]
    for name in PACKAGED:
        if kind_of(name) == "distillation":
            taught = teacher.clone().requires_grad_()
            loss_module(name)(student.clone().requires_grad_(), taught).backward()
            assert taught.grad is None or not taught.grad.any(), name
