"""MGProto: a mixture of Gaussian-distributed prototypes per class."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor

from losses.slots import Slot
from zoo.core.distributed import gather_rows, rank, world_size
from zoo.methods.mgproto.em import Mode, PrototypeEM, prune
from zoo.methods.mgproto.network import MGProtoNet, class_log_likelihood, mine, rows_to_remember
from zoo.methods.mgproto.official import OFFICIAL
from zoo.metrics.ood import likelihood, released_fpr95
from zoo.module import Batch
from zoo.state import ClassQueue
from zoo.state.prototype_sources import PrototypeSources
from zoo.tasks.prototypes import PrototypeModule


class MGProto(PrototypeModule):
    """MGProto (Wang et al., TPAMI 2025, arXiv:2312.00092): a class is a mixture of part prototypes.

    Batch: :class:`~datamodules.batch.ImageClassification`. Each prototype is a Gaussian over unit features of image
    patches; log p(x|c) weighs the highest densities that a class's prototypes reach in the image, and is the logit.
    The mixture is not trained by gradient but fitted by EM to a queue of patch features per class, after each optimizer
    step; a class starts when its queue is full.

    The published schedule has no validation split, fills the queue inside the forward pass and starts EM when the
    queues of all classes are full. Here EM starts class by class; who waits is told after each epoch.

    Two processes with half the batch equal one, but for BatchNorm's statistics.

    Args:
        num_classes: classes in the data set, C.
        backbone: one of :data:`zoo.networks.feature_map.NAMES`.
        pretrained: "imagenet", a file of iNaturalist weights (ResNet-50), or `None`; when training starts, unless other
            weights are loaded.
        upsample: double the map of features, as published for ResNet-50.
        prototypes: per class, K.
        dim: of prototypes.
        embed_dim: of the auxiliary loss's embedding; that loss has a `dim` of its own.
        mine_level: best locations that the mining loss looks at, T; as many as there are on smaller maps.
        queue_size: features remembered per class.
        em_mode, em_lr, em_loops, em_smoothing, em_momentum, diversity: of
            :class:`~zoo.methods.mgproto.em.PrototypeEM`.
        backbone_lr, add_on_lr, proxy_lr: learning rates of the three groups of parameters.
        train_embedding: whether the embedding's layer is trained, as part of the add-on layers. The published code
            leaves it as it was drawn.
        optimizer: factory, given the groups with their rates; `None` takes the paper's (Adam, weight decay 1e-4).
        scheduler: factory, advanced per epoch.
        losses: changes to the slots `task`, `mine` and `aux`.
        stages: training stages. `em` and `mining` say whether these take place; at a stage's end, `push` projects the
            prototypes, and `prune` is how many of a class's then keep their prior: the others' becomes 0.
    """

    slots: ClassVar[Mapping[str, Slot]] = {
        "task": Slot("classification", "cross_entropy"),
        "mine": Slot("classification", "cross_entropy", weight=0.2),
        "aux": Slot("embedding", "proxy_anchor", weight=0.5),
    }
    stage_options: ClassVar[Mapping[str, Any]] = {"em": True, "mining": True, "push": False, "prune": None}
    official = OFFICIAL
    score_name = "log p(x|class)"

    def __init__(
        self,
        num_classes: int,
        backbone: str = "resnet34",
        pretrained: str | None = None,
        upsample: bool = False,
        prototypes: int = 10,
        dim: int = 64,
        embed_dim: int = 32,
        mine_level: int = 20,
        queue_size: int = 800,
        em_mode: Mode = "batched",
        em_lr: float = 3e-3,
        em_loops: int = 3,
        em_smoothing: float = 0.1,
        em_momentum: float = 0.99,
        diversity: float = 1.0,
        backbone_lr: float = 1e-4,
        add_on_lr: float = 3e-3,
        proxy_lr: float = 1e-2,
        train_embedding: bool = False,
        optimizer: OptimizerCallable | None = None,
        scheduler: LRSchedulerCallable | None = None,
        losses: dict[str, Any] | None = None,
        stages: list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(num_classes, "imagenet", optimizer, scheduler, losses, stages)
        self.save_hyperparameters()
        self.mine_level = mine_level
        self.rates = {"backbone": backbone_lr, "add_on": add_on_lr, "proxies": proxy_lr}
        self.train_embedding = train_embedding
        self.network = MGProtoNet(backbone, pretrained, num_classes, prototypes, dim, embed_dim, upsample)
        self.network.embedding.requires_grad_(train_embedding)
        self.queue = ClassQueue(num_classes, queue_size, dim)
        self.em = PrototypeEM(
            num_classes, prototypes, dim, em_mode, em_lr, em_loops, em_smoothing, em_momentum, diversity
        )
        self.sources = PrototypeSources(num_classes, prototypes)
        self._touching = 0  # samples since the last optimizer step, over all ranks

    # -- what prototypes do -------------------------------------------------------------------------------------------

    def locate(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Unit features [B, D, h, w] and log densities [B, h·w, C, K]."""
        unit, _ = self.network(image)
        return unit, self.network.log_density(unit)

    def class_scores(self, activation: Tensor) -> Tensor:
        """log p(x|c) of each class; its softmax is Bayes' posterior with equal class priors."""
        return class_log_likelihood(activation, self.network.mixture.priors)

    def replace_prototypes(self, features: Tensor, taken: Tensor) -> None:
        means = self.network.mixture.means
        means.copy_(torch.where(taken[:, :, None], features, means))

    def shares(self, activation: Tensor) -> Tensor:
        return (activation.amax(0) + self.network.mixture.priors.log()).exp()

    def similarity(self, activation: Tensor) -> Tensor:
        """The density, which is at most 1."""
        return activation.exp()

    def known_score(self, logits: Tensor) -> Tensor:
        """p(x): the sum over classes of p(x|c)."""
        return likelihood(logits)

    def further_measures(self, known: Tensor, unknown: Tensor) -> dict[str, float]:
        return {"fpr95_as_released": released_fpr95(known, unknown, self.num_classes)}

    # -- training -----------------------------------------------------------------------------------------------------

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        terms, unit, location = self.terms(self.front_end(batch["image"]), batch)
        self.remember(unit, location, batch["label"])
        return self.total(terms, batch)

    def terms(self, image: Tensor, batch: Batch) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Loss terms, unit features [B, D, h, w], and where the true class's prototypes fit best, int64 [B, K].

        Args:
            image: normalised [B, 3, H, W].
            batch: its `label` and `index` are used.
        """
        unit, embedding = self.network(image)
        labels, index, epoch = batch["label"], batch["index"], self.current_epoch
        mined = mine(self.network.log_density(unit), self.network.mixture.priors, labels, self.mine_level)
        first, others = mined.levels[..., 0], mined.levels[..., 1:].movedim(2, 0)
        terms = {"task": self.losses.task(first, labels, index=index, epoch=epoch)}
        if self.stage["mining"] and len(others):
            repeated = (len(others),)
            terms["mine"] = self.losses.mine(
                others.flatten(0, 1), labels.repeat(repeated), index=index.repeat(repeated), epoch=epoch
            )
        terms["aux"] = self.losses.aux(embedding, labels)
        return terms, unit, mined.location

    def remember(self, unit: Tensor, location: Tensor, labels: Tensor) -> None:
        """Put each image's features where its class's prototypes fit best into the queue, every location once."""
        self.queue.push(*rows_to_remember(unit, location, labels))
        self.em.touch(gather_rows(labels))
        self._touching += len(labels) * world_size()

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """A step of the optimizer, then of EM: before anything that ends the batch, such as a checkpoint."""
        super().optimizer_step(*args, **kwargs)
        if self.stage["em"]:
            self.em.update(self.network.mixture, self.queue, most=self._touching)
        else:
            self.em.skip()
        self._touching = 0

    def configure_optimizers(self) -> Any:
        embedding = self.network.embedding.parameters() if self.train_embedding else ()
        groups = {
            "backbone": [*self.network.backbone.parameters()],
            "add_on": [*self.network.add_on.parameters(), *embedding],
            "proxies": [*self.losses.parameters()],
        }
        optimizer = self.optimizer or partial(torch.optim.Adam, weight_decay=1e-4)
        return self.optimizers_from(
            optimizer,
            self.scheduler,
            [{"params": params, "lr": self.rates[name]} for name, params in groups.items() if params],
            interval="epoch",
        )

    def prune(self, keep: int) -> None:
        """Switch off all but each class's `keep` likeliest prototypes; the likelihoods' scale changes with it."""
        priors = self.network.mixture.priors
        priors.copy_(prune(priors, keep))

    # -- Lightning's hooks --------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage == "fit":
            for epoch, keep in self.stages.ends("prune", self.epochs_of_run).items():
                self.add_pass(f"prune after epoch {epoch}", partial(self.prune, keep), at_epochs=[epoch])
            if self.trainer.ckpt_path is None:
                self.network.backbone.load_pretrained()

    def on_train_epoch_end(self) -> None:
        super().on_train_epoch_end()
        waiting = (~self.queue.is_full).nonzero().flatten().tolist()  # sync: once per epoch
        if waiting and self.stage["em"] and rank() == 0:
            names = getattr(self.trainer.datamodule, "classes", None) or range(self.num_classes)
            size, count = self.queue.features.shape[1], self.queue.count.tolist()
            first = ", ".join(f"{names[number]} ({count[number]})" for number in waiting[:5])
            rank_zero_info(
                f"EM waits for {len(waiting)} of {self.num_classes} classes whose queues do not hold {size} features "
                f"yet: {first}{', …' if len(waiting) > 5 else ''}"
            )
