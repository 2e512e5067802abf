"""`zoo import METHOD FILE -o OUT`: a published checkpoint as one of this project's."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path


def configure(parser: ArgumentParser) -> None:
    parser.add_argument("method", metavar="METHOD", help="as `zoo list` has it")
    parser.add_argument("file", metavar="FILE", type=Path, help="the published checkpoint, or the folder of its files")
    parser.add_argument("-o", "--output", metavar="OUT", type=Path, required=True, help="the .safetensors to write")
    parser.add_argument(
        "--allow-missing",
        metavar="PATTERN",
        action="append",
        default=[],
        help="parameters that the file may lack, such as 'head.*'; may be repeated",
    )
    parser.set_defaults(run=run)


def run(args: Namespace) -> None:
    import zoo
    from zoo.checkpoints import convert

    model = zoo.create_model(args.method)
    print(convert(model, args.file, args.output, method=args.method, allow_missing=args.allow_missing))
