"""YAML as people write it by hand: plain data and nothing else, no key stands twice, `1e-3` is a number."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from zoo.core.errors import RecipeError

# YAML 1.1 wants a dot in a float; whole numbers are still taken by the resolver of int, which stands before this one.
_FLOAT = re.compile(r"^[-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?$")


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:merge" and isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value} stands twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


def parse(text: str, name: str) -> Any:
    """What `text` says.

    Args:
        name: where it comes from, for messages: a file's path.

    Raises:
        RecipeError: with file and line, if it is no YAML, asks for anything but plain data, or repeats a key.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise RecipeError(f"{name}{line}: {error.problem or error.context}.") from None
    except yaml.YAMLError as error:
        raise RecipeError(f"{name}: {' '.join(str(error).split())}.") from None


def read(path: Path) -> Any:
    """What the file `path` says. Raises RecipeError as :func:`parse` does, or if it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} cannot be read: {error}.") from None
    return parse(text, str(path))
