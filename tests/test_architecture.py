"""Who may import whom, read from the source: a floor never imports one above it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("zoo", "datamodules", "losses")
METHODS = "zoo.methods"

# Below each package: what of ours it may import. The longest name that fits a module is the rule for it.
BELOW_TASKS = ("losses", "datamodules.batch", "zoo.core", "zoo.metrics", "zoo.module", "zoo.networks", "zoo.state")
ALLOWED = {
    "zoo.core": ("zoo.core",),
    "losses": ("losses", "zoo.core"),
    "datamodules": ("datamodules", "zoo.core"),
    "zoo.networks": ("zoo.networks", "zoo.core"),
    "zoo.state": ("zoo.state", "zoo.core"),
    "zoo.metrics": ("zoo.metrics", "zoo.networks", "zoo.core"),
    "zoo.module": ("losses", "datamodules.batch", "zoo.core", "zoo.finite", "zoo.passes", "zoo.stages"),
    "zoo.tasks": (*BELOW_TASKS, "zoo.tasks"),
    METHODS: (*BELOW_TASKS, "zoo.tasks", "zoo.checkpoints"),
}


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def imports(path: Path, module: str) -> Iterator[tuple[int, str]]:
    """(line, name) of every import of a file, also inside functions; relative ones resolved.

    `from a import b` counts as `a.b`: b may be a module.
    """
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            start = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{start}.{alias.name}") for alias in node.names)


def may_import(module: str, name: str) -> bool:
    if within(name, "pytorch_lightning") or within(name, "tests"):
        return False
    if name.partition(".")[0] not in PACKAGES:
        return True
    rules = [package for package in ALLOWED if within(module, package)]
    if not rules:
        return True
    if within(module, METHODS) and within(name, ".".join(module.split(".")[:3])):
        return True  # a method's own folder
    return any(within(name, package) for package in ALLOWED[max(rules, key=len)])


def violations(root: Path) -> list[str]:
    found = []
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found += [
                f"{path.relative_to(root)}:{line}: {module} imports {name}"
                for line, name in imports(path, module)
                if not may_import(module, name)
            ]
    return found


def test_no_module_imports_what_it_may_not():
    assert violations(ROOT) == []


def test_every_rule_is_about_something():
    for package in ALLOWED:
        path = ROOT.joinpath(*package.split("."))
        assert path.is_dir() or path.with_suffix(".py").is_file(), package


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("zoo/core/names.py", "import zoo.module"),
        ("zoo/core/names.py", "from losses import registry"),
        ("zoo/core/deep/names.py", "from ... import cards"),
        ("losses/pixel.py", "from datamodules.batch import collate"),
        ("losses/pixel.py", "from zoo import module"),
        ("losses/pixel.py", "def late():\n    from zoo.state import ClassQueue"),
        ("datamodules/avsbench.py", "import losses.registry as registry"),
        ("datamodules/demo/avsbench.py", "from zoo.networks.vggish import VGGish"),
        ("zoo/networks/vggish.py", "from zoo.methods.toy.network import ToyNet"),
        ("zoo/networks/vggish.py", "from zoo.module import ZooModule"),
        ("zoo/state/queue.py", "from zoo.methods import toy"),
        ("zoo/metrics/dice.py", "from ..methods.toy import network"),
        ("zoo/module.py", "from datamodules.base import ZooDataModule"),
        ("zoo/tasks/segmentation.py", "import zoo.methods.toy.module"),
        ("zoo/methods/toy/module.py", "from zoo.methods.other.network import Block"),
        ("zoo/methods/toy/module.py", "from ..other import network"),
        ("zoo/methods/toy/module.py", "from datamodules.avmnist import AVMNIST"),
        ("zoo/methods/toy/module.py", "import pytorch_lightning as L"),
        ("zoo/cli.py", "from pytorch_lightning.cli import LightningCLI"),
        ("zoo/cli.py", "from tests.toy.method import Toy"),
    ],
)
def test_a_forbidden_import_is_found(tmp_path, file, line):
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(f"import torch\n\n{line}\n")
    (said,) = violations(tmp_path)
    assert said.startswith(f"{file}:{3 + line.count(chr(10))}: ")


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("zoo/core/reading.py", "from zoo.core.errors import ZooError"),
        ("zoo/core/__init__.py", "from .errors import ZooError"),
        ("losses/pixel.py", "from losses.registry import register"),
        ("datamodules/avsbench.py", "from datamodules.demo.avsbench import write"),
        ("zoo/methods/toy/module.py", "from datamodules.batch import AVClassification"),
        ("zoo/methods/toy/module.py", "from .network import ToyNet"),
        ("zoo/methods/toy/module.py", "from zoo.methods.toy.network import ToyNet"),
        ("zoo/methods/toy/module.py", "import lightning.pytorch as L"),
        ("zoo/cli.py", "from zoo.methods.toy.module import Toy"),
    ],
)
def test_an_allowed_import_is_not(tmp_path, file, line):
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(line)
    assert violations(tmp_path) == []
