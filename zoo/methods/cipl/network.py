"""CIPL's network: prototypes on a backbone's map, a teacher that follows, and co-attention between two images."""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from zoo.networks.feature_map import FeatureMap


class PrototypeClassifier(nn.Module):
    """Backbone, layers after it, K prototypes per class, and a linear layer over the similarities to them.

    Args:
        backbone: one of :data:`zoo.networks.feature_map.NAMES`; the map is the classifier's own, not the finer one.
        pretrained: see :class:`~zoo.networks.feature_map.FeatureMap`.
        num_classes: C.
        prototypes: per class, K.
        dim: of the features that prototypes live among, D.
    """

    def __init__(self, backbone: str, pretrained: str | None, num_classes: int, prototypes: int, dim: int) -> None:
        super().__init__()
        self.backbone = FeatureMap(backbone, pretrained, finer=False)
        self.neck = nn.Conv2d(self.backbone.channels, dim, 1)
        self.add_on = nn.Sequential(nn.Conv2d(dim, dim, 1), nn.ReLU(), nn.Conv2d(dim, dim, 1), nn.Sigmoid())
        self.prototypes = nn.Parameter(torch.rand(num_classes, prototypes, dim))
        self.last_layer = nn.Linear(num_classes * prototypes, num_classes, bias=False)
        nn.init.kaiming_normal_(self.neck.weight)
        for layer in (self.add_on[0], self.add_on[2]):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        own = torch.eye(num_classes).repeat_interleave(prototypes, 1)
        self.register_buffer("own", own, persistent=False)
        with torch.no_grad():
            self.last_layer.weight.copy_(own)

    def forward(self, image: Tensor) -> Tensor:
        """Images [B, 3, H, W], normalised, to features in (0, 1), float32 [B, D, h, w]."""
        return self.add_on(self.neck(self.backbone(image))).float()

    def distances(self, features: Tensor) -> Tensor:
        """Squared distance of each location of [B, D, h, w] to each prototype: [B, h·w, C, K], in float32."""
        with torch.autocast(features.device.type, enabled=False):
            rows, points = features.float().flatten(2).mT, self.prototypes.flatten(0, 1)
            return squared_distances(rows, points).unflatten(2, self.prototypes.shape[:2])

    def similarity(self, distances: Tensor) -> Tensor:
        """exp(-d / D), of any shape."""
        return (-distances / self.prototypes.shape[2]).exp()

    def classify(self, distances: Tensor) -> Tensor:
        """Distances to prototypes, each by its closest patch, [B, C, K] to logits [B, C], normal last."""
        return self.last_layer(self.similarity(distances).flatten(1))

    @torch.no_grad()
    def keep_own_evidence(self) -> None:
        """A class's logit adds up what its own prototypes find: other weights become 0, and none is negative."""
        self.last_layer.weight.mul_(self.own).clamp_min_(0)


class CIPLNet(nn.Module):
    """Student and teacher.

    Args:
        backbone, pretrained, num_classes, prototypes, dim: of :class:`PrototypeClassifier`.

    Attributes:
        student: what predicts.
        teacher: its moving average, which is not trained by gradient.
        teacher_began: bool, whether the average has begun; until then the next update copies the student.
    """

    teacher_began: Tensor

    def __init__(self, backbone: str, pretrained: str | None, num_classes: int, prototypes: int, dim: int) -> None:
        super().__init__()
        self.student = PrototypeClassifier(backbone, pretrained, num_classes, prototypes, dim)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.register_buffer("teacher_began", torch.tensor(False))

    @torch.no_grad()
    def update_teacher(self, momentum: float) -> None:
        """Move the teacher's parameters towards the student's; its BatchNorm statistics are its own.

        Equal on all ranks, as the student's parameters are.
        """
        kept = self.teacher_began * momentum
        teacher, student = list(self.teacher.parameters()), [p.detach() for p in self.student.parameters()]
        torch._foreach_mul_(teacher, kept)
        torch._foreach_add_(teacher, torch._foreach_mul(student, 1 - kept))
        self.teacher_began.fill_(True)


class CoAttended(NamedTuple):
    """Features of the other image, gathered to the locations of each.

    Attributes:
        first: of the second image, at the first one's locations [B, D, h, w].
        second: of the first image, at the second one's locations [B, D, h', w'].
    """

    first: Tensor
    second: Tensor


def co_attention(first: Tensor, second: Tensor) -> CoAttended:
    """What two images have in common: each location takes the other image's features, weighed by their closeness.

    Affinity is the negated squared distance of features, normalised by a softmax over the other image's locations,
    without temperature or projection; in float32.

    Args:
        first: features [B, D, h, w].
        second: features [B, D, h', w'].
    """
    with torch.autocast(first.device.type, enabled=False):
        a, b = first.float().flatten(2).mT, second.float().flatten(2).mT
        affinity = -squared_distances(a, b)
        return CoAttended(
            (affinity.softmax(2) @ b).mT.unflatten(2, first.shape[2:]),
            (affinity.softmax(1).mT @ a).mT.unflatten(2, second.shape[2:]),
        )


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Of rows [..., N, D] and [..., M, D]: [..., N, M], as one matrix product, never negative."""
    squares = a.square().sum(-1, keepdim=True) + b.square().sum(-1)[..., None, :]
    return (squares - 2 * (a @ b.mT)).clamp_min(0)
