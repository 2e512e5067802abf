"""The `zoo` command: what there is, demo data, imports. A file per verb.

Verbs that only look things up import no torch.
"""

from __future__ import annotations

import re
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter, _SubParsersAction
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import NoReturn

from zoo.commands import own_packages
from zoo.commands.outcome import one_line_errors
from zoo.core.errors import RecipeError
from zoo.core.names import did_you_mean, nearest

VERBS = {
    "list": "methods",
    "show": "a method's card: paper, published numbers, decisions",
    "losses": "losses and their kinds",
    "data": "data modules: list, demo, check",
    "import": "a published checkpoint as one of this project's",
    "benchmark": "methods × settings × seeds: records and tables",
    "speed": "how long a recipe's training steps take, and what for",
}


class Parser(ArgumentParser):
    """An ArgumentParser without abbreviations whose errors are one line with near misses."""

    options: frozenset[str] = frozenset()

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**{"allow_abbrev": False, "formatter_class": RawDescriptionHelpFormatter, **kwargs})

    def error(self, message: str) -> NoReturn:
        if choice := re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message):
            choices = re.findall(r"'?([\w-]+)'?", choice[2])
            raise RecipeError(f"{self.prog}: {choice[1]!r} is not a verb. {did_you_mean(choice[1], choices)}")
        if stray := re.search(r"unrecognized arguments: (\S+)", message):
            name = stray[1].partition("=")[0]
            close = nearest(name, _option_strings(self)) if name.startswith("-") else []
            hint = f" Did you mean {' or '.join(close)}?" if close else ""
            raise RecipeError(f"{self.prog}: {name} is not expected here.{hint}")
        raise RecipeError(f"{self.prog}: {message}.")


def _option_strings(parser: ArgumentParser) -> set[str]:
    found = set(parser._option_string_actions)
    for action in parser._actions:
        if isinstance(action, _SubParsersAction):
            found |= {option for inner in action.choices.values() for option in _option_strings(inner)}
    return found


def main(args: Sequence[str] | None = None) -> None:
    """Run the command with `args`, or those of the process. Exits with 2 after an error that a user can mend."""
    with one_line_errors():
        own_packages.secure()
        words = list(sys.argv[1:] if args is None else args)
        parser = Parser(prog="zoo", description="multimodal-zoo: what there is, demo data, imports.")
        parser.add_argument("--version", action="store_true", help="print the version")
        verbs = parser.add_subparsers(dest="verb", metavar="VERB")
        for verb, summary in VERBS.items():
            inner = verbs.add_parser(verb, help=summary, description=summary)
            _module(verb).configure(inner)
        asked = parser.parse_args(words)
        if asked.version:
            from zoo.cli import show_version

            show_version()
        elif asked.verb is None:
            parser.print_help()
        else:
            run: Callable[[Namespace], int | None] = asked.run
            sys.exit(run(asked) or 0)


def _module(verb: str) -> object:
    return import_module(f"zoo.tools.{verb}_" if verb in ("list", "import") else f"zoo.tools.{verb}")
