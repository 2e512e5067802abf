"""CIPL: prototypes of findings, learned from what pairs of images have in common and from two views of each."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor

from losses.slots import Slot
from zoo.core.errors import RecipeError
from zoo.methods.cipl.network import CIPLNet, co_attention
from zoo.methods.cipl.official import OFFICIAL
from zoo.module import Batch
from zoo.state.prototype_sources import PrototypeSources
from zoo.tasks.multi_label_classification import MultiLabelModule
from zoo.tasks.prototypes import ProjectedPrototypes

JOINT, LAST_LAYER = 0, 1  # optimizers


class CIPL(ProjectedPrototypes, MultiLabelModule):
    """CIPL (Wang et al., TMI 2025, arXiv:2411.04607): cross- and intra-image prototypical learning.

    Batch: :class:`~datamodules.batch.MultiLabelClassification`; stages of pairs need `partner` and both `second_view`s.
    A finding's logit adds up the similarities of the image's best patches to the finding's prototypes; its probability
    is the softmax over it and normal. Pairs share a label: each image's features, gathered to the other's locations by
    co-attention, must be classified as what both have. A teacher, the moving average of the student, sees another view
    of the same geometry; similarity maps and predictions are aligned with its. Prediction is the student's alone.

    The two images of a pair pass through the network as two batches, as published: BatchNorm sees them apart. Two
    processes with half the batch equal one, but for BatchNorm's statistics.

    Args:
        num_classes: classes of the data set, normal included as the last, C.
        backbone: one of :data:`zoo.networks.feature_map.NAMES`.
        pretrained: "imagenet" or `None`; when training starts, unless other weights are loaded.
        prototypes: per class, K.
        dim: of prototypes, D; the scale of distances too.
        momentum: of the teacher, in [0, 1).
        backbone_lr, add_on_lr, prototype_lr: learning rates of backbone and neck, add-on layers, prototypes.
        last_layer_lr: of the last layer, in stages that train it alone; not scheduled.
        optimizer: factory, given the groups with their rates; `None` takes the paper's (Adam, no weight decay).
        scheduler: factory, advanced per epoch.
        losses: changes to the slots `task`, `cluster`, `separation`, `co_attention`, `maps` and `predictions`.
        stages: training stages. `pairs`: whether images come in pairs, with co-attention and teacher; else single ones
            by the first three losses. `last_layer`: train it alone. `push`: project the prototypes at the stage's end.
            `drop_last_finding`: leave the last finding out of the losses that compare predictions, as released.
    """

    slots: ClassVar[Mapping[str, Slot]] = {
        "task": Slot("multi_label", "finding_or_normal"),
        "cluster": Slot("multi_label_prototype", "label_cluster_cost", weight=0.02),
        "separation": Slot("multi_label_prototype", "label_separation_hinge", weight=0.02, settings={"margin": 2.0}),
        "co_attention": Slot("multi_label", "finding_or_normal", weight=0.5),
        "maps": Slot("distillation", "map_cosine", weight=0.5),
        "predictions": Slot("distillation", "prediction_gram", weight=10.0),
    }
    stage_options: ClassVar[Mapping[str, Any]] = {
        "pairs": True,
        "last_layer": False,
        "push": False,
        "drop_last_finding": False,
    }
    official = OFFICIAL
    score_name = "sum of similarities"
    verdict = "likeliest findings"

    def __init__(
        self,
        num_classes: int,
        backbone: str = "densenet121",
        pretrained: str | None = None,
        prototypes: int = 50,
        dim: int = 256,
        momentum: float = 0.999,
        backbone_lr: float = 1e-4,
        add_on_lr: float = 3e-3,
        prototype_lr: float = 3e-3,
        last_layer_lr: float = 1e-4,
        optimizer: OptimizerCallable | None = None,
        scheduler: LRSchedulerCallable | None = None,
        losses: dict[str, Any] | None = None,
        stages: list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(num_classes, optimizer, scheduler, losses, stages)
        self.save_hyperparameters()
        self.automatic_optimization = False  # the last layer has stages, and an optimizer, of its own
        self.momentum = momentum
        self.rates = {"backbone": backbone_lr, "add_on": add_on_lr, "prototypes": prototype_lr}
        self.last_layer_lr = last_layer_lr
        self.network = CIPLNet(backbone, pretrained, num_classes, prototypes, dim)
        self.sources = PrototypeSources(num_classes, prototypes)

    # -- what prototypes do -------------------------------------------------------------------------------------------

    def locate(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Features [B, D, h, w] and negated distances [B, h·w, C, K]."""
        features = self.network.student(image)
        return features, -self.network.student.distances(features)

    def class_scores(self, activation: Tensor) -> Tensor:
        return self.network.student.classify(-activation.amax(1))

    def look(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and the mean similarity to the prototypes of each class."""
        features, activation = self.locate(image)
        maps = self.similarity(activation).mean(3).mT.unflatten(2, features.shape[2:])
        return self.class_scores(activation), maps

    def replace_prototypes(self, features: Tensor, taken: Tensor) -> None:
        """The teacher's stay, and follow."""
        prototypes = self.network.student.prototypes
        prototypes.data.copy_(torch.where(taken[:, :, None], features, prototypes))

    def similarity(self, activation: Tensor) -> Tensor:
        return self.network.student.similarity(-activation)

    def shares(self, activation: Tensor) -> Tensor:
        """What fits everywhere says nothing: similarity counts as far as it exceeds its mean over the image."""
        student, similarity = self.network.student, self.similarity(activation)
        own = student.last_layer.weight[student.own.bool()].unflatten(0, activation.shape[1:])
        return (own * (similarity.amax(0) - similarity.mean(0))).clamp_min(0)

    def has_class(self, labels: Tensor) -> Tensor:
        return labels > 0.5

    # -- training -----------------------------------------------------------------------------------------------------

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        stage = self.stage
        terms = self.pair_terms(batch) if stage["pairs"] else self.single_terms(batch)
        self.manual_step(self.total(terms, batch), only=[LAST_LAYER if stage["last_layer"] else JOINT])
        if stage["last_layer"]:
            self.network.student.keep_own_evidence()

    def single_terms(self, batch: Batch) -> dict[str, Tensor]:
        """Loss terms of images by themselves: `image` and `label` of the batch."""
        student = self.network.student
        distances = student.distances(student(self.front_end(batch["image"]))).amin(1)
        return self._classification_terms(student.classify(distances), distances, batch["label"])

    def pair_terms(self, batch: Batch) -> dict[str, Tensor]:
        """Loss terms of pairs; moves the teacher first.

        Args:
            batch: `image`, `second_view` and `label` of it and of its `partner` are used.

        Raises:
            RecipeError: if the batch has no pairs.
        """
        partner = batch.get("partner", {})
        if "second_view" not in batch or "second_view" not in partner:
            raise RecipeError(
                "A stage with pairs: true needs images with a partner and a second view each, which the data do "
                "not give; set data.pairs_from_epoch to the stage's first epoch, or pairs: false in the stage."
            )
        student, teacher = self.network.student, self.network.teacher
        labels = torch.cat([batch["label"], partner["label"]])
        features = [student(self.front_end(images["image"])) for images in (batch, partner)]
        everywhere = student.distances(torch.cat(features))
        distances = everywhere.amin(1)
        logits = student.classify(distances)
        terms = self._classification_terms(logits, distances, labels)

        attended = torch.cat(co_attention(*features))
        co_logits = student.classify(student.distances(attended).amin(1))
        both = (batch["label"] * partner["label"]).repeat(2, 1)
        terms["co_attention"] = self.losses.co_attention(self._compared(co_logits), self._compared(both))

        self.network.update_teacher(self.momentum)
        with torch.no_grad():
            views = torch.cat([self.front_end(images["second_view"]) for images in (batch, partner)])
            seen = teacher.distances(teacher(views))
            taught = teacher.classify(seen.amin(1))
        side = features[0].shape[2:]
        maps = (self._maps(net.similarity(d), side) for net, d in ((student, everywhere), (teacher, seen)))
        terms["maps"] = self.losses.maps(*maps)
        terms["predictions"] = self.losses.predictions(self._compared(logits), self._compared(taught))
        return terms

    def _classification_terms(self, logits: Tensor, distances: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {
            "task": self.losses.task(self._compared(logits), self._compared(labels)),
            "cluster": self.losses.cluster(distances, labels),
            "separation": self.losses.separation(distances, labels),
        }

    @staticmethod
    def _maps(similarity: Tensor, side: tuple[int, int]) -> Tensor:
        """[B, h·w, C, K] to [B, C·K, h, w]."""
        return similarity.flatten(2).mT.unflatten(2, side)

    def _compared(self, of_classes: Tensor) -> Tensor:
        """Columns [B, C] that losses on predictions see: all, or as the release has it all but the last finding."""
        if not self.stage["drop_last_finding"]:
            return of_classes
        return torch.cat([of_classes[:, :-2], of_classes[:, -1:]], 1)

    def configure_optimizers(self) -> Any:
        student, make = self.network.student, self.optimizer or partial(torch.optim.Adam, weight_decay=0.0)
        groups = {
            "backbone": [*student.backbone.parameters(), *student.neck.parameters()],
            "add_on": [*student.add_on.parameters()],
            "prototypes": [student.prototypes],
        }
        joint = self.optimizers_from(
            make, self.scheduler, [{"params": groups[name], "lr": rate} for name, rate in self.rates.items()], "epoch"
        )
        last = make([{"params": [*student.last_layer.parameters()], "lr": self.last_layer_lr}])
        return [joint if isinstance(joint, dict) else {"optimizer": joint}, {"optimizer": last}]

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage == "fit" and self.trainer.ckpt_path is None:
            self.network.student.backbone.load_pretrained()
