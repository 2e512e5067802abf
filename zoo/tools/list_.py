"""`zoo list`: the methods."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from zoo.models import catalogue
from zoo.tools.text import table


def configure(parser: ArgumentParser) -> None:
    parser.set_defaults(run=run)


def run(args: Namespace) -> None:
    facts = [(name, entry.facts) for name, entry in catalogue.entries().items()]
    rows = [(name, known.get("task", ""), known.get("paper", ""), known.get("summary", "")) for name, known in facts]
    print(table(("method", "task", "paper", "summary"), rows))
