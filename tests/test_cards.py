"""Cards say what their schema asks for, and what they say of this project's own code is true."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from datamodules.batch import TASKS
from datamodules.registry import catalogue as datamodules
from zoo import cards
from zoo.cards import CardError
from zoo.models import METHODS, card_paths, catalogue
from zoo.module import ZooModule

GOOD: dict[str, Any] = {
    "summary": "Agreement of two views",
    "licence": "MIT",
    "paper": {
        "title": "Toy",
        "authors": ["Doe", "Roe"],
        "venue": "CVPR",
        "year": 2030,
        "arxiv": "3001.00001",
        "bibtex": "@inproceedings{toy}",
    },
    "models": {"toy": {"class": "pkg.toy.module:Toy", "task": "toy", "summary": "the one"}},
    "datasets": ["avmnist"],
    "checkpoints": [{"name": "toy_r50", "file": "toy.pth", "licence": "MIT", "preprocess": {"flip": True}}],
    "decisions": ["The paper gives no learning rate; ours is 1e-3."],
    "sources": {"text": "the paper"},
    "results": [
        {
            "dataset": "avmnist",
            "setting": "",
            "metric": "accuracy",
            "method": "Toy",
            "value": 71,
            "unit": "percent",
            "table": "Table 2",
            "source": "text",
            "confidence": "primary",
        }
    ],
}


MODEL, RESULT = GOOD["models"]["toy"], GOOD["results"][0]


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "card.yaml"
    path.write_text(yaml.safe_dump({**GOOD, **changes}, sort_keys=False))
    return path


def test_a_card_is_read_whole(tmp_path: Path) -> None:
    card = cards.read(written(tmp_path))
    assert card.models["toy"].class_ == "pkg.toy.module:Toy"
    assert card.paper.when == "CVPR 2030"
    assert card.results[0].value == 71
    assert card.checkpoints[0].sha256 == "unknown"
    assert cards.read(written(tmp_path, checkpoints="None were published.")).checkpoints == "None were published."


def test_the_head_of_a_card_leaves_the_results_out(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.write_text(path.read_text() + "- {broken\n")
    assert cards.read_head(path).models["toy"].task == "toy"


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"licens": "MIT"}, "licens is not a key of a card. Did you mean licence"),
        ({"models": {"toy": {**MODEL, "clas": "x:Y"}}}, "models.toy.clas is not a key of a card. Did you mean class?"),
        ({"models": {"toy": {**MODEL, "class": "toy.Toy"}}}, "models.toy.class must be package.module:Class, not 'toy"),
        ({"models": ["toy"]}, "models must be a mapping, not ['toy']."),
        ({"models": {"toy": None}}, "models.toy must be a mapping of class, task, summary, not None."),
        ({"datasets": "avmnist"}, "datasets must be a list, not 'avmnist'."),
        ({"datasets": [3]}, "datasets.0 must be a text, not 3."),
        ({"paper": {**GOOD["paper"], "arxiv": 3001.00001}}, "paper.arxiv must be a text, not 3001.00001."),
        ({"paper": {**GOOD["paper"], "year": "2030"}}, "paper.year must be a whole number, not '2030'."),
        ({"checkpoints": 3}, "checkpoints must be a list, not 3."),
        ({"results": [{**RESULT, "value": "71"}]}, "results.0.value must be a number, not '71'."),
        ({"results": [{**RESULT, "confidence": "primry"}]}, "results.0.confidence 'primry' is unknown. Did you"),
        ({"results": [{**RESULT, "source": "txt"}]}, "results.0.source 'txt' is not a key of sources. Did you"),
    ],
)  # fmt: skip
def test_a_wrong_card_says_file_key_and_near_miss(tmp_path: Path, changes: dict[str, Any], wanted: str) -> None:
    path = written(tmp_path, **changes)
    with pytest.raises(CardError) as raised:
        cards.read(path)
    assert any(line.startswith(f"{path}: {wanted}") for line in str(raised.value).splitlines())


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    path = written(tmp_path, licens="MIT", datasets=[3])
    path.write_text(path.read_text().replace("summary: Agreement of two views\n", ""))
    with pytest.raises(CardError) as raised:
        cards.read(path)
    assert [line.partition(": ")[2].split()[0] for line in str(raised.value).splitlines()] == [
        "licens",
        "summary",
        "datasets.0",
        "results",  # no longer the last key
    ]


def test_results_stand_last(tmp_path: Path) -> None:
    path = tmp_path / "card.yaml"
    path.write_text(yaml.safe_dump({"results": GOOD["results"], **GOOD}, sort_keys=False))
    with pytest.raises(CardError, match="results must be the last key"):
        cards.read(path)


# -- the cards of this project ---------------------------------------------------------------------------------------

FOLDERS = sorted(
    path.name for path in METHODS.iterdir() if (path / "module.py").is_file() or (path / "card.yaml").is_file()
)


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_method_has_a_card_that_is_whole(folder: str) -> None:
    card = cards.read(METHODS / folder / "card.yaml")
    assert set(card.datasets) <= set(datamodules.entries())


@pytest.mark.parametrize("name", sorted(card_paths()))
def test_what_a_card_says_of_a_model_is_true(name: str) -> None:
    entry = catalogue.entry(name)
    cls = entry.load()
    assert issubclass(cls, ZooModule)
    assert cls.task == entry.facts["task"]
    assert cls.task in TASKS
    assert cls.__module__.startswith(f"zoo.methods.{card_paths()[name].parent.name}.")


@pytest.mark.parametrize("name", list(datamodules.entries()))
def test_facts_of_data_modules_are_true(name: str) -> None:
    entry = datamodules.entry(name)
    cls = entry.load()
    assert (cls.name, cls.task) == (name, entry.facts["task"])
    assert cls.task in TASKS
