"""`zoo data list | demo NAME ROOT --samples N | check NAME ROOT`."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from datamodules.registry import catalogue
from zoo.core.errors import DataError, RecipeError
from zoo.tools.text import table


def configure(parser: ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="data_verb", metavar="VERB", required=True)
    verbs.add_parser("list", help="data modules").set_defaults(run=list_)
    demo = verbs.add_parser("demo", help="write generated data in a data set's own layout")
    check = verbs.add_parser("check", help="say what is missing or broken in a copy of a data set; exits with 1 then")
    for verb in (demo, check):
        verb.add_argument("name", metavar="NAME", help="as `zoo data list` has it")
        verb.add_argument("root", metavar="ROOT", type=Path, help="the data set's folder")
    demo.add_argument("--samples", metavar="N", type=int, required=True, help="how many")
    demo.set_defaults(run=write_demo)
    check.set_defaults(run=check_copy)


def list_(args: Namespace) -> None:
    keys = ("task", "summary", "layout")
    rows = [(name, *(entry.facts.get(key, "") for key in keys)) for name, entry in catalogue.entries().items()]
    print(table(("name", *keys), rows))


def write_demo(args: Namespace) -> None:
    if args.samples < 1:
        raise RecipeError(f"--samples is {args.samples}; it must be at least 1.")
    entry = catalogue.entry(args.name)
    from datamodules.base import make_demo

    written = make_demo(entry.load(), args.root, args.samples)
    print(f"{args.root}: {args.samples} samples {'written' if written else 'were already there'}.")


def check_copy(args: Namespace) -> int:
    entry = catalogue.entry(args.name)
    if not args.root.is_dir():
        raise DataError(f"{args.root} is no folder.")
    count = 0
    for problem in entry.load().check(args.root):
        print(problem, flush=True)
        count += 1
    print(f"{args.root}: {count or 'no'} problem{'' if count == 1 else 's'}.")
    return 1 if count else 0
