"""What methods share that classify by prototypes of parts: projection, measures of parts, explanations."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor

from zoo.core.distributed import rank
from zoo.core.randomness import global_seed, torch_generator
from zoo.metrics.part_measures import PartMetric
from zoo.module import Batch
from zoo.state.prototype_sources import PATCH, PrototypeSources, encode
from zoo.tasks.explanation import Explanation, Winner, write_explanation
from zoo.tasks.files import run_folder
from zoo.tasks.projection import best_patches, box_of_peak, choose, square_around
from zoo.tasks.recognition import RecognitionModule

SHOWN = 3  # prototypes in an explanation


class PrototypeModule(RecognitionModule):
    """Base of methods with K prototypes per class that look for parts of the image.

    A method implements :meth:`locate`, :meth:`class_scores` and :meth:`replace_prototypes`. Stages with `push: true`
    project the prototypes on training patches when they end; where each came from is kept in the checkpoint.

    `lightning test` with data that annotate parts (`fitting: squash` of CUB) writes `parts.csv`; `lightning predict`
    writes `explanations/`: for each image a PNG and a JSON with the prototypes that decided, where they look, and the
    training patches they come from.
    """

    stage_options: ClassVar[Mapping[str, Any]] = {"push": False}
    score_name: ClassVar[str] = "score"
    """What the logits are."""
    sources: PrototypeSources

    # -- a method's own -----------------------------------------------------------------------------------------------

    def locate(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised images [B, 3, H, W] to features [B, D, h, w] and each prototype's activation at every location
        [B, h·w, C, K], larger where it fits better."""
        raise NotImplementedError

    def class_scores(self, activation: Tensor) -> Tensor:
        """What :meth:`locate` gives to logits [B, C]."""
        raise NotImplementedError

    def replace_prototypes(self, features: Tensor, chosen: Tensor) -> None:
        """Take the features [N, K, D] of rows `chosen` int64 [C, K] (-1: none) as prototypes."""
        raise NotImplementedError

    def shares(self, activation: Tensor) -> Tensor:
        """How much each prototype's best activation [C, K] adds to its class: non-negative [C, K]."""
        raise NotImplementedError

    def similarity(self, activation: Tensor) -> Tensor:
        """Activations as they are shown and measured; any shape."""
        return activation

    # -- shared -------------------------------------------------------------------------------------------------------

    def logits(self, image: Tensor) -> Tensor:
        return self.class_scores(self.locate(image)[1])

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage == "fit":
            self.add_pass("push", self.push, at_epochs=[*self.stages.ends("push", self.epochs_of_run)])
        if stage == "test" and (names := getattr(self.trainer.datamodule, "part_names", ())):
            size = self.trainer.datamodule.image_size
            self.test_parts = PartMetric(*self.sources.index.shape, names, size).to(self.device)

    @property
    def epochs_of_run(self) -> int | None:
        """How many it will have, if that is said."""
        epochs = self.trainer.max_epochs
        return epochs if epochs and epochs > 0 else None

    # -- projection ---------------------------------------------------------------------------------------------------

    def push(self) -> None:
        """Project each prototype on the best patch of its class's training images; an image serves one at most."""

        def first(batch: Batch) -> dict[str, Tensor]:
            features, activation = self.locate(self.front_end(batch["image"]))
            best = best_patches(activation, features, batch["label"])
            return {**best._asdict(), **{key: batch[key] for key in ("label", "index")}}

        found = self.data_pass(first)
        chosen = choose(found["activation"], found["label"], self.num_classes)
        self.replace_prototypes(found["features"], chosen)
        taken = chosen >= 0
        self.sources.index.copy_(torch.where(taken, found["index"][chosen.clamp_min(0)], -1))
        user = torch.full((int(found["index"].max()) + 1,), -1, device=self.device)  # sync: a few times per run
        user[self.sources.index[taken]] = taken.flatten().nonzero().flatten()

        def second(batch: Batch) -> dict[str, Tensor]:
            _, activation = self.locate(self.front_end(batch["image"]))
            return self._source_rows(batch, activation.flatten(2), user[batch["index"]])

        rows = self.data_pass(second)
        kept = rows["prototype"] >= 0
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

    # -- measures of parts --------------------------------------------------------------------------------------------

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        image = self.front_end(batch["image"])
        _, activation = self.locate(image)
        logits = self.class_scores(activation)
        self._score(logits, dataloader_idx)
        if dataloader_idx > 0:
            return
        self.test_accuracy.update(logits, batch["label"])
        self.log("test/accuracy", self.test_accuracy, on_epoch=True, add_dataloader_idx=False)
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

    def explain(
        self, image: Tensor, activation: Tensor, logits: Tensor, name: str, classes: list[str] | tuple[str, ...]
    ) -> Explanation:
        """Why an image was given its class.

        Args:
            image: [1|3, H, W] in [0, 1].
            activation: of every location [h·w, C, K].
            logits: [C].
            name: the image's id.
            classes: names of the classes.
        """
        probability = logits.softmax(0)
        order = logits.argsort(descending=True)[:3].tolist()
        number = order[0]
        shares = self.shares(activation.amax(0))[number]
        side, size = map_side(image[None], len(activation)), tuple(image.shape[1:])
        winners = []
        for prototype in shares.argsort(descending=True)[:SHOWN].tolist():
            seen = self.similarity(activation[:, number, prototype]).unflatten(0, side)
            large = F.interpolate(seen[None, None].float(), size, mode="bicubic")[0, 0]
            source = self.sources.image_id(number, prototype)
            winners.append(
                Winner(
                    prototype=prototype,
                    share=float(shares[prototype] / shares.sum()),
                    similarity=float(seen.max()),
                    box=box_of_peak(seen, size),
                    source_image=source,
                    source_box=tuple(self.sources.box[number, prototype].tolist()) if source is not None else None,
                    activation=large.cpu(),
                    patch=self.sources.patch[number, prototype].cpu() if source is not None else None,
                )
            )
        return Explanation(
            image=name,
            scores={classes[n]: float(logits[n]) for n in order},
            probabilities={classes[n]: float(probability[n]) for n in order},
            known_score=float(self.known_score(logits[None])),
            score_name=self.score_name,
            winners=winners,
        )


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
