"""A benchmark runs once, resumes, refuses to mix, and tells means, differences and published numbers."""

from __future__ import annotations

import json

import pytest
import yaml

from zoo.benchmark import runner, suite, tables
from zoo.core.errors import RecipeError, ZooError
from zoo.tools import main

SUITE = {
    "recipes": {"ShaSpec": "zoo:shaspec/avmnist", "image only": "zoo:baselines/avmnist_image"},
    "settings": {"20 %": {"data.demo": 60, "data.audio_share": 0.2, "trainer.max_epochs": 1}},
    "seeds": [0, 1],
    "metrics": ["test/accuracy_image"],
    "reference": "ShaSpec",
    "checkpoint": "last",
    "published": {
        "card": "shaspec",
        "metric": "accuracy",
        "settings": {"20 %": "audio rate 20 % in training; test on images only"},
    },
}


@pytest.fixture
def suite_file(tmp_path):
    path = tmp_path / "suite.yaml"
    path.write_text(yaml.safe_dump(SUITE, sort_keys=False))
    return path


def record(method: str, seed: int, accuracy: float) -> dict:
    return {"method": method, "setting": "20 %", "seed": seed, "metrics": {"test/accuracy_image": accuracy}}


RECORDS = [
    record("ShaSpec", 0, 0.9),
    record("ShaSpec", 1, 0.8),
    record("image only", 0, 0.7),
    record("image only", 1, 0.8),
]


def test_table_tells_means_paired_differences_and_published_numbers(suite_file):
    text = tables.markdown(suite.read(suite_file), RECORDS)
    assert "| ShaSpec | 85.00 ± 7.07 |" in text
    assert "| image only | 75.00 ± 7.07 |" in text
    assert "| image only | 10.00 ± 14.14 |" in text
    assert "| *published: ShaSpec* | 94.67 |" in text


def test_records_of_another_recipe_are_not_mixed_in(suite_file, tmp_path):
    asked = suite.read(suite_file)
    stale = RECORDS[0] | {"asked": {}, "versions": {}}
    (tmp_path / runner.RECORDS).write_text(json.dumps(stale) + "\n")
    with pytest.raises(ZooError, match="another recipe or other versions"):
        next(runner.run(asked, tmp_path, jobs=1))


@pytest.mark.parametrize("change", [{"seds": [1]}, {"reference": "nobody"}, {"seeds": None}])
def test_a_suite_with_a_mistake_is_refused(change, tmp_path):
    tree = {key: value for key, value in (SUITE | change).items() if value is not None}
    path = tmp_path / "suite.yaml"
    path.write_text(yaml.safe_dump(tree))
    with pytest.raises(RecipeError, match=r"suite\.yaml"):
        suite.read(path)


def test_the_packaged_benchmark_is_read_and_has_published_numbers():
    from zoo.commands.recipes import find

    asked = suite.read(find("zoo:benchmarks/avmnist"))
    assert len(asked.runs()) == 100
    assert asked.published_values()["ShaSpec", "20 %"] == 94.67


@pytest.mark.slow
def test_a_benchmark_reruns_to_the_digit_and_resumes(suite_file, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ZOO_DATA", str(tmp_path / "data"))
    for name in ("one", "two"):
        with pytest.raises(SystemExit) as stop:
            main(["benchmark", str(suite_file), "-o", str(tmp_path / name)])
        assert stop.value.code == 0
    one, two = (
        sorted(runner.read_records(tmp_path / name), key=lambda r: (r["method"], r["seed"])) for name in ("one", "two")
    )
    assert [made["metrics"] for made in one] == [made["metrics"] for made in two]
    assert one[0]["recipe"]["seed_everything"] == one[0]["seed"]
    assert (tmp_path / "one" / "table.md").read_text() == (tmp_path / "two" / "table.md").read_text()
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["benchmark", str(suite_file), "-o", str(tmp_path / "one")])
    assert "seed" not in capsys.readouterr().out  # nothing ran again


def test_the_last_checkpoint_is_tested_where_the_suite_says_so(tmp_path):
    path = tmp_path / "suite.yaml"
    path.write_text(yaml.safe_dump(SUITE))
    assert {run.checkpoint for run in suite.read(path).runs()} == {"last"}
    asked = runner._asked(suite.read(path).runs()[0])
    path.write_text(yaml.safe_dump(SUITE | {"checkpoint": "best"}))
    assert asked != runner._asked(suite.read(path).runs()[0])
    path.write_text(yaml.safe_dump(SUITE | {"checkpoint": "lsat"}))
    with pytest.raises(RecipeError, match="checkpoint is 'lsat'; it is one of best, last"):
        suite.read(path)
