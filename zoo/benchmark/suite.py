"""What a benchmark compares, read from `recipes/benchmarks/*.yaml`.

recipes: {ShaSpec: zoo:shaspec/avmnist, image only: zoo:baselines/avmnist_image}
settings:                        # columns of the table: options on top of each recipe
  5 %: {data.audio_share: 0.05}
seeds: [0, 1, 2, 3, 4]
metrics: [test/accuracy_image]   # the first is the headline
reference: ShaSpec               # its paired difference to each of the others is told
checkpoint: best                 # or last: which one is tested; best if absent
published: {card: shaspec, metric: accuracy, settings: {5 %: "audio rate 5 % in training; test on images only"}}
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo import models, strict_yaml
from zoo.commands.runs import WORDS
from zoo.core.errors import RecipeError
from zoo.core.names import did_you_mean


@dataclass(frozen=True)
class Run:
    """One run: a recipe under a setting with a seed."""

    method: str
    setting: str
    seed: int
    recipe: str
    options: dict[str, Any]
    checkpoint: str

    @property
    def key(self) -> tuple[str, str, int]:
        return self.method, self.setting, self.seed


@dataclass(frozen=True)
class Suite:
    """A benchmark; see the module."""

    recipes: dict[str, str]
    settings: dict[str, dict[str, Any]]
    seeds: list[int]
    metrics: list[str]
    reference: str
    published: dict[str, Any] = dataclasses.field(default_factory=dict)
    checkpoint: str = "best"

    def runs(self) -> list[Run]:
        return [
            Run(method, setting, seed, recipe, options, self.checkpoint)
            for seed in self.seeds
            for setting, options in self.settings.items()
            for method, recipe in self.recipes.items()
        ]

    def published_values(self) -> dict[tuple[str, str], float]:
        """Published numbers of the headline by (method as published, setting)."""
        if not self.published:
            return {}
        settings = {text: label for label, text in self.published["settings"].items()}
        return {
            (result.method, settings[result.setting]): result.value
            for result in models.card(self.published["card"]).results
            if result.setting in settings and result.metric == self.published["metric"]
        }


def read(path: Path) -> Suite:
    """Raises RecipeError, naming the key, if the file is no benchmark."""
    tree = strict_yaml.read(path)
    fields = [field.name for field in dataclasses.fields(Suite)]
    if not isinstance(tree, dict):
        raise RecipeError(f"{path}: a benchmark is a mapping of {', '.join(fields)}.")
    for key in tree:
        if key not in fields:
            raise RecipeError(f"{path}: {key} is not a key of a benchmark. {did_you_mean(str(key), fields)}")
    if missing := [key for key in fields if key not in tree and key not in ("published", "checkpoint")]:
        raise RecipeError(f"{path} lacks {', '.join(missing)}.")
    suite = Suite(**tree)
    if suite.checkpoint not in WORDS:
        raise RecipeError(f"{path}: checkpoint is {suite.checkpoint!r}; it is one of {', '.join(WORDS)}.")
    if suite.reference not in suite.recipes:
        raise RecipeError(f"{path}: reference: {suite.reference} is not one of its recipes.")
    return suite
