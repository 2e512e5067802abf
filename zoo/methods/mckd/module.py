"""MCKD: meta-learned cross-modal knowledge distillation for missing modalities, on volumes."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from losses.slots import Slot
from zoo.checkpoints import Official
from zoo.core.errors import RecipeError
from zoo.core.randomness import global_seed, python_generator
from zoo.methods.mckd.importance import teaching
from zoo.methods.mckd.meta import MetaLearner, frozen
from zoo.methods.mckd.official import RULES
from zoo.module import Batch
from zoo.networks.availability import draw_availability
from zoo.networks.unet3d_mean_filled import MeanFilledUNet3d
from zoo.networks.unet3d_multimodal import Available
from zoo.tasks.volume_segmentation import VolumeSegmentationModule


class MCKD(MetaLearner, VolumeSegmentationModule):
    """MCKD, later MetaKD (Wang et al., arXiv:2405.07155), for the segmentation of volumes.

    Batch: :class:`~datamodules.batch.VolumeSegmentation`; any modality may be absent, in training and in tests. Crops
    of the validation split, augmented as in training, are what importance weights are learned from (BraTS:
    `split_list: meta`).

    One encoder sees every modality. Each available modality teaches every other one, by the ratio of their importances.
    Between training steps, phases of meta steps learn these: in a forward pass that scales the features by them, and
    fills nothing, the encoder and the decoder being frozen. Nothing else uses them; tests do not, as in the released
    code.

    Args:
        meta_batches: crops in each phase, one per step of the importance weights.
        accumulate: batches per training step. The end of training is then told in steps (`trainer.max_steps`).
        gradient_clip_val: largest norm of the networks' gradient; as `trainer.gradient_clip_val` of other methods.
        meta_optimizer: of the importance weights; `None` takes Adam, learning rate 1e-2, weight decay 5e-4.
        kwargs: as of :class:`~zoo.tasks.volume_segmentation.VolumeSegmentationModule`. Slots: `task` and `distil`.
            Stages may also set `meta_every_steps`, the training steps from one phase to the next; the first is after
            the first step. As to `available`, a phase does as training.
    """

    official = Official(RULES, version=1)
    slots: ClassVar = VolumeSegmentationModule.slots | {
        "distil": Slot("cross_modal_distillation", "pairwise_l1", weight=0.1),
    }
    stage_options: ClassVar = VolumeSegmentationModule.stage_options | {"meta_every_steps": 500}
    network_class = MeanFilledUNet3d
    network: MeanFilledUNet3d
    meta_split = "val"

    def __init__(
        self,
        meta_batches: int = 20,
        accumulate: int = 1,
        gradient_clip_val: float | None = None,
        meta_optimizer: OptimizerCallable | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.accumulate, self.gradient_clip_val = accumulate, gradient_clip_val
        for number, stage in enumerate(kwargs.get("stages") or []):
            if (every := stage.get("meta_every_steps", 1)) < 1:
                raise RecipeError(f"stages.{number}.meta_every_steps is {every}; it must be at least 1.")
        self.add_importance(lambda: self.stage["meta_every_steps"], meta_batches, 1, meta_optimizer)

    def terms(self, images: Tensor, mask: Tensor, available: Available) -> dict[str, Tensor]:
        """Loss terms.

        Args:
            images: [B, M, D, H, W].
            mask: [B, R, D, H, W], 0 or 1.
            available: per sample.
        """
        encodings = self.network.encode(images, available)
        logits = self.network.decode(encodings, available)
        features = self.network.raw_features(encodings, available)
        weight = teaching(self.raw_importance, self.network.flags(available, images.device))
        return {"task": self.losses.task(logits, mask), "distil": self.losses.distil(features, weight)}

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        self.log_importance()
        terms = self.terms(self.images(batch), batch["mask"], self.drawn(batch))
        step = {"accumulate": self.accumulate, "gradient_clip_val": self.gradient_clip_val}
        self.manual_step(self.total(terms, batch), only=[0], **step)

    def meta_logits(self, images: Tensor, available: Available, weights: Tensor) -> Tensor:
        """Logits [B, R, D, H, W] from features that importance weights [M] scale; only these get a gradient.

        A missing modality has the zero volume's features, scaled, for its own.
        """
        with torch.no_grad():
            encodings = self.network.encode(images, available)
            features = self.network.raw_features(encodings, available)
            skips = self.network.skips(encodings, available)
        scaled = weights.view(-1, *[1] * (features.dim() - 1)) * features
        return frozen(self.network.decoder, scaled.transpose(0, 1).flatten(1, 2), skips)

    def meta_loss(self, batch: Batch, weights: Tensor) -> Tensor:
        available = self.present(batch)
        if self.stage["available"] == "random":
            rng = python_generator(global_seed(), "meta", self.steps_done, self.meta_steps_done)
            chosen = draw_availability(rng, len(self.modalities), len(self.modalities))
            available = [[m for m in chosen if m in there] or there for there in available]
        return self.losses.task(self.meta_logits(self.images(batch), available, weights), batch["mask"])
