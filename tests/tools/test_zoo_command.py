"""The `zoo` command: quick listings, demo data, checks, imports."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import zoo
from tests.support.commands import Cli
from tests.support.tiny import Wide
from tests.test_cards import GOOD, written
from zoo import cards
from zoo.checkpoints import Official
from zoo.tools.show import sections
from zoo.tools.text import table

pytest_plugins = ["tests.support.command_fixtures"]

WITHOUT_TORCH = """
import sys
from zoo.tools import main
try:
    main(sys.argv[1:])
finally:
    assert not {"torch", "lightning", "rich"} & set(sys.modules), "heavy import"
"""

QUICK = ["list", "losses", "losses --kind alignment", "data list", "show shaspec", "--help", "--version", "data --help"]


@pytest.mark.parametrize("words", QUICK)
def test_looking_up_needs_no_torch_and_a_fifth_of_a_second(words: str) -> None:
    spent = []
    while len(spent) < 10 and min(spent, default=1) >= 0.2:  # a busy machine is slower, none faster
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-c", WITHOUT_TORCH, *words.split()]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(spent) < 0.2


def test_list_names_all_methods(zoo_command: Cli) -> None:
    out = zoo_command("list").out
    assert all(name in out for name in zoo.list_models())


def test_losses_are_those_of_the_kind(zoo_command: Cli) -> None:
    assert "ring_l1" in zoo_command("losses").out
    out = zoo_command("losses", "--kind", "classification").out
    assert "cross_entropy" in out
    assert "ring_l1" not in out


def test_a_card_is_shown_whole(tmp_path: Path) -> None:
    text = "\n".join(sections(cards.read(written(tmp_path))))
    paper, result = GOOD["paper"], GOOD["results"][0]
    for fact in (*paper["authors"], paper["title"], paper["bibtex"], "CVPR 2030", "MIT", "toy_r50", *GOOD["decisions"]):
        assert fact in text
    assert all(str(result[key]) in text for key in ("dataset", "metric", "value", "table", "confidence"))


def test_a_table_leaves_out_what_is_always_empty() -> None:
    assert table(("a", "b", "c"), [("1", "", "22"), ("333", "", "4")]) == "A    C\n1    22\n333  4"


def test_demo_data_are_written_once_and_checked(zoo_command: Cli) -> None:
    assert zoo_command("data", "demo", "tinydata", "copy", "--samples", "7").out == "copy: 7 samples written.\n"
    assert zoo_command("data", "demo", "tinydata", "copy", "--samples=7").out == "copy: 7 samples were already there.\n"
    assert zoo_command("data", "check", "tinydata", "copy").code == 0
    (zoo_command.folder / "copy/val.npy").unlink()
    result = zoo_command("data", "check", "tinydata", "copy")
    assert (result.code, result.out) == (1, "copy/val.npy is missing.\ncopy: 1 problem.\n")


def test_an_import_writes_ours_and_says_what_matched(zoo_command: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Wide, "official", Official(rules=(), version=1), raising=False)
    state = Wide().state_dict()
    torch.save(state, zoo_command.folder / "published.pth")
    result = zoo_command("import", "wide", "published.pth", "-o", "ours.safetensors")
    assert result.code == 0
    assert f"matched {len(state)}" in result.out
    assert load_file(zoo_command.folder / "ours.safetensors").keys() == state.keys()

    del state["head.bias"]
    torch.save(state, zoo_command.folder / "partial.pth")
    refused = zoo_command("import", "wide", "partial.pth", "-o", "partial.safetensors")
    assert refused.code == 2
    assert "head.bias" in refused.errors[0]
    assert not (zoo_command.folder / "partial.safetensors").exists()
    allowed = ["--allow-missing", "head.*", "--allow-missing=body.*"]
    assert zoo_command("import", "wide", "partial.pth", "-o", "partial.safetensors", *allowed).code == 0


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("lst", "zoo: 'lst' is not a verb. Did you mean list?"),
        ("data lst", "zoo data: 'lst' is not a verb. Did you mean list?"),
        ("losses --knd x", "zoo: --knd is not expected here. Did you mean --kind?"),
        ("losses --kin alignment", "zoo: --kin is not expected here. Did you mean --kind"),
        ("losses --kind aligment", "'aligment' is not a known kind of loss. Did you mean alignment?"),
        ("show tny", "'tny' is not a known method."),
        ("show tiny", "tiny comes from a plug-in that has no card.yaml beside its module."),
        ("data demo tinydatum x --samples 3", "'tinydatum' is not a known data module. Did you mean tinydata?"),
        ("data demo tinydata x --samples 0", "--samples is 0; it must be at least 1."),
        ("data demo tinydata x --samples many", "zoo data demo: argument --samples: invalid int value: 'many'."),
        ("data demo tinydata x", "zoo data demo: the following arguments are required: --samples."),
        ("data check tinydata nowhere", "nowhere is no folder."),
        ("import tny x.pth -o y.safetensors", "'tny' is not a known method. Did you mean tiny?"),
        ("import wide x.pth -o y.safetensors", "Wide has no rules for published checkpoints."),
        ("import tiny x.pth", "zoo import: the following arguments are required: -o/--output."),
    ],
)
def test_a_mistake_is_one_line(zoo_command: Cli, words: str, wanted: str) -> None:
    result = zoo_command(*words.split())
    assert result.code == 2
    assert len(result.errors) == 1
    assert result.errors[0].startswith(f"error: {wanted}")
    assert len(result.err.splitlines()) == 1
