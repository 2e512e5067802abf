"""The registry of losses: facts in YAML equal the code, names need no torch, third parties can add theirs."""

import importlib
import inspect
import pkgutil
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import yaml
from torch import Tensor, nn

import losses
import zoo
from losses import registry
from losses.kinds import KINDS
from losses.registry import find, kind_of, names, register
from zoo.core import catalogue as catalogue_module
from zoo.core.catalogue import Catalogue
from zoo.core.errors import RecipeError, UnknownNameError

FOLDER = Path(losses.__file__).parent
FACTS = yaml.safe_load((FOLDER / "losses.yaml").read_text())


@pytest.fixture
def own_registry(monkeypatch):
    """A registry of its own, as a process that has imported no loss yet has it."""
    monkeypatch.setattr(registry, "catalogue", Catalogue("loss", "zoo.losses", registry._packaged))
    monkeypatch.setattr(registry, "_registered", {})


def load(name: str) -> tuple[str, object]:
    """A packaged loss as its own module registers it, in whatever registry is in place."""
    module, _, attribute = FACTS[name]["target"].partition(":")
    return importlib.import_module(module), attribute


@pytest.mark.parametrize("name", FACTS)
def test_every_entry_of_the_yaml_is_what_the_code_registers(name):
    module, attribute = load(name)
    kind, loss = find(name)
    assert loss is getattr(module, attribute)
    assert kind == FACTS[name]["kind"]
    assert inspect.getdoc(loss).partition("\n")[0] == FACTS[name]["summary"] + "."


def test_every_loss_that_a_module_registers_is_in_the_yaml():
    for module in pkgutil.walk_packages(losses.__path__, "losses."):
        importlib.import_module(module.name)
    ours = {name for name, (_, loss) in registry._registered.items() if loss.__module__.startswith("losses.")}
    assert ours == set(FACTS)


def test_every_entry_says_no_more_than_the_facts_that_are_read():
    for name, facts in FACTS.items():
        assert {"kind", "target", "summary"} <= facts.keys() <= {"kind", "target", "summary", "source", "needs"}, name
        assert facts["kind"] in KINDS


def test_names_and_kinds_are_known_without_torch():
    code = (
        "import sys, zoo; from losses.registry import kind_of\n"
        "print(zoo.list_losses(), zoo.list_losses('alignment'), kind_of('ring_l1'), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{sorted(FACTS)} ['ring_l1'] alignment False"


def test_names_of_one_kind():
    assert "ring_l1" in zoo.list_losses("alignment")
    assert "ring_l1" not in zoo.list_losses("classification")
    assert names("distillation") == [name for name in names() if kind_of(name) == "distillation"]


@pytest.mark.parametrize("ask", [names, zoo.list_losses, lambda kind: register("x", kind=kind)])
def test_an_unknown_kind_offers_the_nearest(ask):
    with pytest.raises(UnknownNameError, match=r"'clasification' is not a known kind of loss.*mean classification"):
        ask("clasification")


def test_an_unknown_loss_offers_the_nearest():
    with pytest.raises(UnknownNameError, match=r"'ring_l2' is not a known loss.*mean ring_l1"):
        find("ring_l2")


@pytest.mark.usefixtures("own_registry")
def test_a_loss_of_a_users_script_is_found_listed_and_described():
    @register("a_users_own", kind="alignment")
    def own(features: Tensor) -> Tensor:
        """Nothing at all.

        And more of it.
        """
        return features.sum() * 0

    assert find("a_users_own") == ("alignment", own)
    assert "a_users_own" in names("alignment")
    assert registry.catalogue.entry("a_users_own").facts == {"kind": "alignment", "summary": "Nothing at all"}


@pytest.mark.usefixtures("own_registry")
def test_a_cell_of_a_notebook_may_be_run_again():
    def define(kind):
        @register("again", kind=kind)
        def again(x: Tensor) -> Tensor:
            return x

        return again

    define("alignment")
    second = define("classification")
    assert find("again") == ("classification", second)
    assert kind_of("again") == "classification"


@pytest.mark.usefixtures("own_registry")
def test_settings_are_those_of_the_loss_that_holds_the_name_now():
    def define(default):
        @register("again", kind="alignment")
        def again(x: Tensor, *, power: float = default) -> Tensor:
            return x

    define(1.0)
    assert registry.settings("again")["power"].default == 1.0
    define(2.0)
    assert registry.settings("again")["power"].default == 2.0


@pytest.mark.usefixtures("own_registry")
def test_two_losses_of_one_name_are_refused():
    @register("taken", kind="alignment")
    def first(features: Tensor) -> Tensor:
        return features.sum()

    with pytest.raises(RecipeError, match=r"'taken' is taken by the loss .*first"):

        @register("taken", kind="alignment")
        def second(features: Tensor) -> Tensor:
            return features.mean()

    assert find("taken")[1] is first


@pytest.mark.usefixtures("own_registry")
def test_a_packaged_loss_that_was_not_imported_yet_keeps_its_name():
    with pytest.raises(RecipeError, match=r"'cross_entropy' is taken by the loss losses\.classification:cross_entropy"):

        @register("cross_entropy", kind="classification")
        def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
            return logits.sum()


@pytest.fixture
def plug_in(tmp_path, monkeypatch, own_registry):
    """An installed package with a loss, not yet imported."""
    (tmp_path / "zoo_plug_in_losses.py").write_text(
        "from losses.registry import register\n\n\n"
        "@register('theirs', kind='distillation')\n"
        "def theirs(student, teacher, *, scale: float = 1.0):\n"
        "    '''Squared difference.'''\n"
        "    return scale * (student - teacher.detach()).square().mean()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    targets = {"theirs": "zoo_plug_in_losses:theirs", "promised": "zoo_plug_in_losses:theirs"}
    points = [EntryPoint(name, target, "zoo.losses") for name, target in targets.items()]
    monkeypatch.setattr(catalogue_module, "entry_points", lambda group: [p for p in points if p.group == group])
    yield
    sys.modules.pop("zoo_plug_in_losses", None)


@pytest.mark.usefixtures("plug_in")
def test_a_plug_ins_loss_is_listed_unimported_and_found_by_name_and_kind():
    assert "theirs" in names()
    assert "zoo_plug_in_losses" not in sys.modules
    assert kind_of("theirs") == "distillation"
    assert find("theirs")[1] is sys.modules["zoo_plug_in_losses"].theirs
    assert registry.catalogue.entry("theirs").facts["summary"] == "Squared difference"


@pytest.mark.usefixtures("plug_in")
def test_a_plug_in_that_registers_another_name_than_its_entry_point_says_so():
    with pytest.raises(RecipeError, match=r"zoo_plug_in_losses:theirs was imported .* no loss called 'promised'"):
        find("promised")


def test_settings_are_the_keywords_that_a_recipe_may_give():
    assert list(registry.settings("cross_entropy")) == ["label_smoothing"]  # not index, epoch: the step gives them
    assert registry.settings("ring_l1") == {}


@pytest.mark.usefixtures("own_registry")
def test_settings_of_a_class_are_its_arguments():
    @register("a_class", kind="classification")
    class Loss(nn.Module):
        def __init__(self, momentum: float, size: int = 3) -> None:
            super().__init__()

    assert list(registry.settings("a_class")) == ["momentum", "size"]
