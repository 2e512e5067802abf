"""`zoo losses [--kind KIND]`: the losses, which recipes put into slots of their kind."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from losses import registry
from losses.kinds import KINDS
from zoo.tools.text import table


def configure(parser: ArgumentParser) -> None:
    parser.add_argument("--kind", metavar="KIND", help=f"only those of one kind: {', '.join(KINDS)}")
    parser.set_defaults(run=run)


def run(args: Namespace) -> None:
    facts = {name: registry.catalogue.entry(name).facts for name in registry.names(args.kind)}
    rows = [
        (name, known.get("kind", ""), ", ".join(known.get("needs", [])), known.get("summary", ""))
        for name, known in facts.items()
    ]
    print(table(("loss", "kind", "needs", "summary"), rows))
    print("\nA loss fits every slot of its kind; kinds are called with")
    for kind, signature in KINDS.items():
        if args.kind in (None, kind):
            print(f"  {kind} {signature}")
