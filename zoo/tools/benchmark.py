"""`zoo benchmark SUITE -o FOLDER`."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path


def configure(parser: ArgumentParser) -> None:
    parser.add_argument("suite", help="a file of recipes/benchmarks, or zoo:benchmarks/NAME; data from ZOO_DATA")
    parser.add_argument("-o", "--out", required=True, type=Path, metavar="FOLDER", help="records and tables; resumed")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, one thread each")
    parser.set_defaults(run=run)


def run(args: Namespace) -> None:
    from zoo.benchmark import runner, suite, tables
    from zoo.commands.recipes import find

    asked = suite.read(find(args.suite))
    total = len(asked.runs())
    done = len(runner.read_records(args.out))
    for record in runner.run(asked, args.out, args.jobs):
        done += 1
        score = record["metrics"][asked.metrics[0]]
        print(f"{done}/{total} {record['method']}, {record['setting']}, seed {record['seed']}: {score:.4f}", flush=True)
    tables.write(asked, runner.read_records(args.out), args.out)
    print(f"{args.out / 'table.md'}")
