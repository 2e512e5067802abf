"""GNL: generative noisy-label learning with a partial-label prior."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor, nn

from losses.candidate_labels import log_joint, log_prior
from losses.slots import Slot
from zoo.core.distributed import rank, world_size
from zoo.core.errors import DataError
from zoo.core.randomness import derive, global_seed, numpy_generator, torch_generator
from zoo.methods.gnl import prior as labels
from zoo.methods.gnl.network import TwoHeadNet
from zoo.methods.gnl.noise import noise_probability
from zoo.methods.gnl.official import OFFICIAL
from zoo.methods.gnl.pictures import write_noisiest, write_transition
from zoo.methods.gnl.statistics import PriorStatistics
from zoo.metrics.batch_accuracy import BatchMeanAccuracy
from zoo.metrics.transition import label_counts, row_normalised, transition_error
from zoo.module import Batch
from zoo.networks.noisy_label_backbones import backbone as make_backbone
from zoo.tasks.files import run_folder
from zoo.tasks.image_classification import ImageClassificationModule

Direction = Literal["pxy", "pyx"]
Mixed = tuple[float, Tensor]  # weight of the image itself, and the rows of those that it is mixed with


class GNL(ImageClassificationModule):
    """GNL (Liu et al., arXiv:2308.01184): learning from images of which many are wrongly labelled.

    Batch: :class:`~datamodules.batch.ImageClassification`, labels as given. One head predicts the true label, a second
    one the given label from the image and the first head's answer. Each sample has a prior over its true label, equal
    on a few candidates: the given label, a class drawn from earlier predictions, and random ones whose number grows
    with the probability that the label is wrong. The classifier's output, normalised over the batch, stands for a
    generator p(x|y). A stage of the recipe with `warmup: true` draws the number of random candidates evenly.

    After every epoch outside warm-up, a look at the whole training set tells how likely each label is wrong and how
    labels go wrong. `lightning test` with such a checkpoint also logs `test/transition_error` where true labels are
    known, and writes `transition.png` and `noisiest.png`.

    Two ranks with half the batch equal one, but for BatchNorm and for `mixup`, which mixes within a rank.

    Args:
        num_classes: classes in the data set, C.
        backbone: see :func:`zoo.networks.noisy_label_backbones.backbone`.
        width: channels of its first stage.
        direction: "pxy" weighs the given label's head with the prior in the posterior term, "pyx" does not. The
            published code's names; which of them the paper calls Y→X is not known.
        pair: train two networks, each with candidates from the other's predictions and noise probabilities from the
            other's losses; their logits are added. Both see the same batches (the published code trains one after the
            other in each epoch, on orders of their own).
        draw_from: with `pair`, whose predictions give drawn classes: the "other" network's, or "both" (Animal-10N).
        mixup: a of Beta(a, a) by which images and given labels are mixed; `None` is no mixing. Priors are not mixed.
        momentum: of the moving average of predictions.
        temperature: of the draw from it.
        leave_out: classes that are never candidates at the least; 1 in the published code's last version, 0 before.
        noise_head: whose losses tell how likely labels are wrong, "clean" or "noisy".
        noise_augment: whether these losses are computed on augmented images.
        normalisation: statistics of the images, see :data:`zoo.networks.normalise.STATISTICS`.
        batch_mean_accuracy: also log accuracy as the published code computes it, as `…/accuracy_batch_mean`.
        optimizer: factory; `None` takes SGD, learning rate 0.02, momentum 0.9, weight decay 5e-4.
        scheduler: factory, advanced every epoch; `None` is none.
        losses: changes to the slots `noisy` (the given label), `prior` and `posterior`.
        stages: with the option `warmup`.
    """

    official = OFFICIAL
    training_memory = (*ImageClassificationModule.training_memory, "memory.")
    slots: ClassVar[Mapping[str, Slot]] = {
        "noisy": Slot("classification", "cross_entropy"),
        "prior": Slot("candidate_labels", "implicit_generative"),
        "posterior": Slot("distillation", "kl_from_teacher"),
    }
    stage_options: ClassVar[Mapping[str, Any]] = {"warmup": False}

    def __init__(
        self,
        num_classes: int = 10,
        backbone: str = "resnet34",
        width: int = 64,
        direction: Direction = "pxy",
        pair: bool = False,
        draw_from: Literal["other", "both"] = "other",
        mixup: float | None = None,
        momentum: float = 0.9,
        temperature: float = 0.5,
        leave_out: int = 1,
        noise_head: Literal["clean", "noisy"] = "noisy",
        noise_augment: bool = False,
        normalisation: str = "cifar10",
        batch_mean_accuracy: bool = False,
        optimizer: OptimizerCallable | None = None,
        scheduler: LRSchedulerCallable | None = None,
        losses: dict[str, Any] | None = None,
        stages: list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(num_classes, normalisation, optimizer, scheduler, losses, stages)
        self.save_hyperparameters()
        self.direction, self.draw_from, self.mixup = direction, draw_from, mixup
        self.momentum, self.temperature, self.leave_out = momentum, temperature, leave_out
        self.noise_head, self.noise_augment = noise_head, noise_augment
        count = 2 if pair else 1
        self.networks = nn.ModuleList(TwoHeadNet(make_backbone(backbone, width), num_classes) for _ in range(count))
        self.statistics = PriorStatistics()
        self.batch_means = nn.ModuleDict(
            {stage: BatchMeanAccuracy() for stage in ("val", "test") if batch_mean_accuracy}
        )
        self.add_pass("noise", self._judge_labels, every_epochs=1)

    # -- inference ----------------------------------------------------------------------------------------------------

    def logits(self, image: Tensor) -> Tensor:
        return torch.stack([network(image)[0].float() for network in self.networks]).sum(0)

    # -- training -----------------------------------------------------------------------------------------------------

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        image, index = self.front_end(batch["image"]), batch["index"]
        priors = [self._draw_prior(number, batch) for number in range(len(self.networks))]
        terms: dict[str, Tensor] = {}
        for number, (network, prior) in enumerate(zip(self.networks, priors, strict=True)):
            mixed = self._draw_mixing(number, len(image))
            clean, noisy = network(self.mix(image, mixed))
            for slot, term in self.terms(clean, noisy, batch, prior, mixed).items():
                terms[slot] = terms[slot] + term if number else term
            self.memory.remember(number, index, clean, self.momentum)
        return self.total(terms, batch)

    @staticmethod
    def mix(image: Tensor, mixed: Mixed | None) -> Tensor:
        """Images [B, 3, H, W], each mixed with another one if `mixed` says so."""
        return image if mixed is None else mixed[0] * image + (1 - mixed[0]) * image[mixed[1]]

    def terms(
        self, clean: Tensor, noisy: Tensor, batch: Batch, prior: Tensor, mixed: Mixed | None = None
    ) -> dict[str, Tensor]:
        """The three loss terms of one network.

        Args:
            clean, noisy: logits of the true and of the given label, [B, C].
            batch: gives `label` and `index`.
            prior: float [B, C], rows sum to 1.
            mixed: how images were mixed, if they were.

        Returns:
            A scalar for each slot.
        """

        def given(rows: Tensor | slice) -> Tensor:
            label, index = batch["label"][rows], batch["index"][rows]
            return self.losses.noisy(noisy, label, index=index, epoch=self.current_epoch)

        fit = given(slice(None))
        if mixed:
            share, others = mixed
            fit = share * fit + (1 - share) * given(others)
        log_p = clean.float().log_softmax(1)
        terms = {"noisy": fit, "prior": self.losses.prior(log_p, prior)}
        # The evidence is equal for all classes, so it has no effect; but with it steps equal the published code's to
        # the last bit, and training blows differences up.
        joint = log_prior(prior) if self.direction == "pxy" else log_joint(log_p, prior).logsumexp(1, keepdim=True)
        return {**terms, "posterior": self.losses.posterior(noisy.float().log_softmax(1) + joint, clean)}

    def _draw_prior(self, number: int, batch: Batch) -> Tensor:
        """π of one network's samples, [B, C], from what is remembered before this batch."""
        label, index = batch["label"], batch["index"]
        uniform = self._uniform(f"prior {number}", len(label), 3 + self.num_classes).to(label.device, non_blocking=True)
        other = len(self.networks) - 1 - number
        sources = [other, number] if self.draw_from == "both" and other != number else [other]
        drawn = [
            labels.draw_class(
                labels.sampling_distribution(self.memory.averages[source][index], self.temperature), uniform[:, place]
            )
            for place, source in enumerate(sources)
        ]
        covered = labels.coverage(self.num_classes, label, *drawn)
        if self.stage["warmup"]:
            count = labels.warmup_count(uniform[:, 2], self.num_classes, self.leave_out)
        else:
            count = labels.uncertainty_count(self.memory.noise_probability[other][index], covered, self.leave_out)
        candidates = covered | labels.draw_uncertainty(covered, count, uniform[:, 3:])
        if "clean_label" in batch:
            self.statistics.update(covered, candidates, label, batch["clean_label"])
        return labels.candidate_prior(candidates)

    def _uniform(self, name: str, rows: int, columns: int) -> Tensor:
        """This rank's rows of a draw for the global batch, float [rows, columns] in [0, 1)."""
        whole = torch.rand(rows * world_size(), columns, generator=torch_generator(*self.draw_key(name)))
        return whole[rows * rank() : rows * (rank() + 1)]

    def _draw_mixing(self, number: int, rows: int) -> Mixed | None:
        if self.mixup is None:
            return None
        rng = numpy_generator(*self.draw_key(f"mixup {number}"))
        share = rng.beta(self.mixup, self.mixup)
        return max(share, 1 - share), torch.from_numpy(rng.permutation(rows)).to(self.device)

    def configure_optimizers(self) -> Any:
        sgd = partial(torch.optim.SGD, lr=0.02, momentum=0.9, weight_decay=5e-4)
        return self.optimizers_from(self.optimizer or sgd, self.scheduler, interval="epoch")

    # -- a look at the training set -----------------------------------------------------------------------------------

    def _judge_labels(self) -> None:
        """How likely each label is wrong, by each network; and how labels go wrong, by both."""
        if self.stages.at(self.epochs_done, self.steps_done)["warmup"]:
            return
        found = self.data_pass(self._judge, augment=self.noise_augment)
        seed = derive(global_seed(), "noise", self.epochs_done)
        for number, losses in enumerate(found["loss"].unbind(1)):
            self.memory.noise_probability[number] = noise_probability(losses, seed)
        self.memory.joint.copy_(found["clean"].flatten(0, 1).T @ found["noisy"].flatten(0, 1))
        if "clean_label" in found:
            self.memory.true_counts.copy_(label_counts(found["clean_label"], found["label"], self.num_classes))

    def _judge(self, batch: Batch) -> dict[str, Tensor]:
        image = self.front_end(batch["image"])
        heads = [
            torch.stack(head, 1).float() for head in zip(*(network(image) for network in self.networks), strict=True)
        ]
        judged = heads[0] if self.noise_head == "clean" else heads[1]  # [B, K, C]
        label = batch["label"][:, None].expand(-1, judged.shape[1])
        loss = F.cross_entropy(judged.transpose(1, 2), label, reduction="none")
        known = {key: batch[key] for key in ("label", "clean_label") if key in batch}
        return {"loss": loss, "clean": heads[0].softmax(2), "noisy": heads[1].softmax(2), **known}

    # -- what is remembered -------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage == "fit":
            self._make_memory(self.trainer.datamodule.num_samples("train"))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        kept = checkpoint["state_dict"].get("memory.noise_probability")
        if kept is not None and (self._trainer is None or self.trainer.state.fn != "fit"):
            self._make_memory(kept.shape[1])
        super().on_load_checkpoint(checkpoint)

    def _make_memory(self, num_samples: int) -> None:
        self.memory = labels.TrainingMemory(num_samples, self.num_classes, len(self.networks)).to(self.device)

    # -- reports ------------------------------------------------------------------------------------------------------

    def on_train_epoch_end(self) -> None:
        super().on_train_epoch_end()
        if self.statistics.update_called:
            self.log_dict({f"train/prior/{name}": value for name, value in self.statistics.compute().items()})
            self.statistics.reset()

    def score(self, logits: Tensor, label: Tensor, stage: str) -> None:
        super().score(logits, label, stage)
        if stage in self.batch_means:
            self.batch_means[stage].update(logits, label)
            self.log(f"{stage}/accuracy_batch_mean", self.batch_means[stage], on_epoch=True, add_dataloader_idx=False)

    def on_test_epoch_end(self) -> None:
        super().on_test_epoch_end()
        if not hasattr(self, "memory") or not self.memory.joint.any():
            return  # trained no further than its warm-up
        estimate, true = row_normalised(self.memory.joint), None
        if self.memory.true_counts.any():
            true = row_normalised(self.memory.true_counts)
            self.log("test/transition_error", transition_error(estimate, true))
        if rank() == 0:
            datamodule, folder = self.trainer.datamodule, run_folder(self)
            names = [str(name) for name in getattr(datamodule, "classes", None) or range(self.num_classes)]
            write_transition(estimate, true, names, folder / "transition.png")
            try:
                probability = self.memory.noise_probability.mean(0)
                write_noisiest(datamodule.source("train"), probability, names, folder / "noisiest.png")
            except DataError as error:  # a copy of the data that has what a test needs, no more
                rank_zero_warn(f"noisiest.png is not written: {error}")
