"""What methods share that classify by prototypes of parts: projection, measures of parts, explanations."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor, nn

from zoo.core.distributed import rank
from zoo.core.randomness import global_seed, torch_generator
from zoo.metrics.part_measures import PartMetric
from zoo.module import Batch, ZooModule
from zoo.state.prototype_sources import PATCH, PrototypeSources, encode
from zoo.tasks.explanation import Explanation, Winner, write_explanation
from zoo.tasks.files import run_folder
from zoo.tasks.projection import best_of_classes, box_of_peak, choose, patch_features, square_around
from zoo.tasks.recognition import RecognitionModule

SHOWN = 3  # prototypes in an explanation


class ProjectedPrototypes(ZooModule):
    """Mechanism of methods with K prototypes per class that look for parts of the image: projection, explanations.

    Stands before a task's base among a method's bases. A method implements :meth:`locate`, :meth:`class_scores`,
    :meth:`replace_prototypes` and :meth:`shares`. Stages with `push: true` project the prototypes on training patches
    when they end; where each came from is kept in the checkpoint. `lightning predict` writes `explanations/`: for each
    image a PNG and a JSON with the prototypes that decided, where they look, and the training patches they come from.
    """

    stage_options: ClassVar[Mapping[str, Any]] = {"push": False}
    score_name: ClassVar[str] = "score"
    """What the logits are."""
    verdict: ClassVar[str] = "looks like"
    """What is said of the likeliest classes."""
    num_classes: int
    front_end: nn.Module
    probabilities: Callable[[Tensor], Tensor]
    """Of the classes that can be predicted: logits [B, C] to [B, C] or fewer, in the order of classes."""
    sources: PrototypeSources

    # -- a method's own -----------------------------------------------------------------------------------------------

    def locate(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised images [B, 3, H, W] to features [B, D, h, w] and each prototype's activation at every location
        [B, h·w, C, K], larger where it fits better."""
        raise NotImplementedError

    def class_scores(self, activation: Tensor) -> Tensor:
        """What :meth:`locate` gives to logits [B, C]."""
        raise NotImplementedError

    def replace_prototypes(self, features: Tensor, taken: Tensor) -> None:
        """Take features [C, K, D] as prototypes where `taken`, bool [C, K]."""
        raise NotImplementedError

    def shares(self, activation: Tensor) -> Tensor:
        """How much each prototype speaks for its class in an image, by its activation everywhere in it [h·w, C, K]:
        non-negative [C, K]."""
        raise NotImplementedError

    def similarity(self, activation: Tensor) -> Tensor:
        """Activations as they are shown and measured; any shape."""
        return activation

    def has_class(self, labels: Tensor) -> Tensor:
        """Which classes a batch's images have: bool [B, C]."""
        raise NotImplementedError

    def fit_to_known(self, logits: Tensor) -> Tensor | None:
        """How well images fit the known classes, [B, C] to [B]; `None` if the method does not say."""
        return None

    # -- shared -------------------------------------------------------------------------------------------------------

    def logits(self, image: Tensor) -> Tensor:
        return self.class_scores(self.locate(image)[1])

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage == "fit":
            self.add_pass("push", self.push, at_epochs=[*self.stages.ends("push", self.epochs_of_run)])

    @property
    def epochs_of_run(self) -> int | None:
        """How many it will have, if that is said."""
        epochs = self.trainer.max_epochs
        return epochs if epochs and epochs > 0 else None

    # -- projection ---------------------------------------------------------------------------------------------------

    def push(self) -> None:
        """Project each prototype on the best patch of its class's training images; an image serves one at most."""

        def first(batch: Batch) -> dict[str, Tensor]:
            _, activation = self.locate(self.front_end(batch["image"]))
            return {
                "best": best_of_classes(activation, self.has_class(batch["label"])),
                "index": batch["index"],
            }

        found = self.data_pass(first)
        chosen = choose(found["best"])
        taken = chosen >= 0
        self.sources.index.copy_(torch.where(taken, found["index"][chosen.clamp_min(0)], -1))
        user = torch.full((int(found["index"].max()) + 1,), -1, device=self.device)  # sync: a few times per run
        user[self.sources.index[taken]] = taken.flatten().nonzero().flatten()

        def second(batch: Batch) -> dict[str, Tensor]:
            features, activation = self.locate(self.front_end(batch["image"]))
            prototype = user[batch["index"]]
            patches = patch_features(activation, features, prototype.clamp_min(0))
            return {"features": patches, **self._source_rows(batch, activation.flatten(2), prototype)}

        rows = self.data_pass(second)
        kept = rows["prototype"] >= 0
        features = rows["features"].new_zeros(taken.numel(), rows["features"].shape[1])
        features[rows["prototype"][kept]] = rows["features"][kept]
        self.replace_prototypes(features.unflatten(0, taken.shape), taken)
        for name in ("name", "box", "patch"):
            getattr(self.sources, name).flatten(0, 1)[rows["prototype"][kept]] = rows[name][kept]
        rank_zero_info(f"Projected {int(taken.sum())} of {taken.numel()} prototypes on training patches.")

    def _source_rows(self, batch: Batch, activation: Tensor, prototype: Tensor) -> dict[str, Tensor]:
        image = batch["image"].float()
        size, side = tuple(image.shape[2:]), map_side(image, activation.shape[1])
        boxes = torch.zeros(len(image), 4, device=image.device)
        patches = torch.zeros(len(image), 3, PATCH, PATCH, dtype=torch.uint8, device=image.device)
        for row, number in enumerate(prototype.tolist()):  # sync: a few times per run
            if number >= 0:
                seen = self.similarity(activation[row, :, number]).unflatten(0, side)
                boxes[row] = torch.tensor(box_of_peak(seen, size))
                patches[row] = cut(image[row], boxes[row])
        return {"prototype": prototype, "name": encode(batch["id"], image.device), "box": boxes, "patch": patches}

    # -- explanations -------------------------------------------------------------------------------------------------

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """As of the base; also writes an explanation of each image."""
        found = super().predict_step(batch, batch_idx)
        _, activation = self.locate(self.front_end(batch["image"]))
        logits = self.class_scores(activation)
        names = getattr(self.trainer.datamodule, "classes", None) or [str(n) for n in range(self.num_classes)]
        for row, image in enumerate(batch["image"]):
            explanation = self.explain(image, activation[row], logits[row], batch["id"][row], names)
            write_explanation(explanation, image, run_folder(self) / "explanations")
        return found

    @torch.no_grad()
    def explain(
        self, image: Tensor, activation: Tensor, logits: Tensor, name: str, classes: list[str] | tuple[str, ...]
    ) -> Explanation:
        """What speaks for the likeliest class of an image.

        Args:
            image: [1|3, H, W] in [0, 1].
            activation: of every location [h·w, C, K].
            logits: [C].
            name: the image's id.
            classes: names of the classes.
        """
        probability = self.probabilities(logits[None])[0]
        order = probability.argsort(descending=True)[:3].tolist()
        number = order[0]
        shares = self.shares(activation)[number]
        shares = shares / shares.sum().clamp_min(torch.finfo(shares.dtype).tiny)  # an image may have nothing for it
        side, size = map_side(image[None], len(activation)), tuple(image.shape[1:])
        winners = []
        for prototype in shares.argsort(descending=True)[:SHOWN].tolist():
            seen = self.similarity(activation[:, number, prototype]).unflatten(0, side)
            large = F.interpolate(seen[None, None].float(), size, mode="bicubic")[0, 0]
            source = self.sources.image_id(number, prototype)
            winners.append(
                Winner(
                    prototype=prototype,
                    share=float(shares[prototype]),
                    similarity=float(seen.max()),
                    box=box_of_peak(seen, size),
                    source_image=source,
                    source_box=tuple(self.sources.box[number, prototype].tolist()) if source is not None else None,
                    activation=large.cpu(),  # sync: prediction
                    # sync: prediction
                    patch=self.sources.patch[number, prototype].cpu() if source is not None else None,
                )
            )
        known = self.fit_to_known(logits[None])
        return Explanation(
            image=name,
            scores={classes[n]: float(logits[n]) for n in order},
            probabilities={classes[n]: float(probability[n]) for n in order},
            known_score=None if known is None else float(known),
            score_name=self.score_name,
            verdict=self.verdict,
            winners=winners,
        )


class PrototypeModule(ProjectedPrototypes, RecognitionModule):
    """Base of prototype methods that give an image one class.

    `lightning test` with data that annotate parts (`fitting: squash` of CUB) writes `parts.csv`.
    """

    def has_class(self, labels: Tensor) -> Tensor:
        return F.one_hot(labels, self.num_classes).bool()

    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.softmax(1)

    def fit_to_known(self, logits: Tensor) -> Tensor:
        return self.known_score(logits)

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage == "test" and (names := getattr(self.trainer.datamodule, "part_names", ())):
            size = self.trainer.datamodule.image_size
            self.test_parts = PartMetric(*self.sources.index.shape, names, size).to(self.device)

    # -- measures of parts --------------------------------------------------------------------------------------------

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        image = self.front_end(batch["image"])
        _, activation = self.locate(image)
        logits = self.class_scores(activation)
        self._score(logits, dataloader_idx)
        if dataloader_idx > 0:
            return
        self.score(logits, batch["label"], "test")
        if "parts" in batch and hasattr(self, "test_parts"):
            _, noisy = self.locate(image + _noise(batch["index"], image))
            own = noisy.take_along_dim(batch["label"][:, None, None, None], 2)[:, :, 0]
            side = map_side(image, activation.shape[1])
            maps, disturbed = (self.similarity(x).movedim(1, -1).unflatten(-1, side) for x in (activation, own))
            self.test_parts.update(maps, disturbed, batch["label"], batch["parts"], batch["size"])

    def on_test_epoch_end(self) -> None:
        super().on_test_epoch_end()
        measures = self.test_parts.compute() if hasattr(self, "test_parts") else None
        if measures is None:
            return
        self.log_dict({f"test/{name}": value for name, value in measures._asdict().items()})
        if rank() == 0:
            with (run_folder(self) / "parts.csv").open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(["measure", "value"])
                writer.writerows((name, f"{value:.4f}") for name, value in measures._asdict().items())


def map_side(image: Tensor, locations: int) -> tuple[int, int]:
    """Rows and columns of a map of `locations` over images [B, C, H, W]: the proportions are the image's."""
    rows = round((locations * image.shape[2] / image.shape[3]) ** 0.5)
    return rows, locations // rows


def cut(image: Tensor, box: Tensor) -> Tensor:
    """The square around a box of an image [1|3, H, W] in [0, 1], as uint8 [3, 64, 64]."""
    top, left, side = square_around(box.tolist(), tuple(image.shape[1:]))
    part = image[:, top : top + side, left : left + side]
    large = F.interpolate(part[None], (PATCH, PATCH), mode="bilinear", antialias=True)[0]
    return (large.expand(3, -1, -1) * 255).round().clamp(0, 255).to(torch.uint8)


def _noise(index: Tensor, image: Tensor) -> Tensor:
    """Noise of the stability measure on normalised images, N(0, 0.2²) within ±0.25, by a rule of (seed, index)."""
    rows = [
        torch.randn(image.shape[1:], generator=torch_generator(global_seed(), "stability", number))
        for number in index.tolist()
    ]
    return (0.2 * torch.stack(rows)).clamp(-0.25, 0.25).to(image)
