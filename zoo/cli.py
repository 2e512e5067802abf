"""The `lightning` command: `lightning fit|validate|test|predict -c RECIPE [--key=value …]`.

`python -m zoo.cli` is the same. Help and version answer without importing torch.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from zoo.commands import own_packages
from zoo.commands.outcome import one_line_errors

HELP = """\
usage: lightning fit|validate|test|predict -c RECIPE [-c RECIPE …] [--key=value …]

  lightning fit -c zoo:shaspec/demo                    train on generated data
  lightning test -c recipe.yaml --ckpt_path best       evaluate the newest run of this recipe
  lightning fit -c recipe.yaml --ckpt_path last        resume it, exactly
  lightning fit -c recipe.yaml --weights file.pth      start from published weights

  -c, --config RECIPE     a YAML file, or zoo:NAME for one that comes with this project; later ones win
  --trainer.KEY=VALUE     an argument of Lightning's trainer
  --model.KEY=VALUE       an argument of the method; --model.losses.SLOT=NAME puts another loss into a slot
  --data.KEY=VALUE        an argument of the data module
  --ckpt_path PATH        resume (fit) or evaluate a run's checkpoint: a file, best or last
  --weights PATH          initial weights; --allow-missing 'head.*' lets parameters keep their own
  --print_config          print the resolved recipe and stop
  --model.help NAME       what a method takes; likewise --data.help NAME
  --version

`lightning fit --help` lists all keys of the trainer; `zoo list` and `zoo losses` say what there is.
"""


def main(args: Sequence[str] | None = None) -> None:
    """Run the command with `args`, or those of the process. Exits with 2 after an error that a user can mend."""
    with one_line_errors():
        own_packages.secure()
        from zoo.commands import command_line, recipes
        from zoo.core.errors import RecipeError

        command = command_line.parse(sys.argv[1:] if args is None else args)
        if command.version:
            show_version()
        elif command.verb is None and command.help in ([], ["--help"]):
            print(HELP, end="")
            if not command.help:
                raise RecipeError("no verb is given: fit, validate, test or predict.")
        else:
            recipes.read_all(command, recipes.Recipe())  # what is wrong with a file shows before torch is imported
            from zoo.commands.run import run

            run(command)


def show_version() -> None:
    """Print the version, and whether another package has a command of the same name."""
    import zoo
    from zoo.commands import ownership

    print(f"multimodal-zoo {zoo.__version__}")
    if note := ownership.note():
        print(note, file=sys.stderr)


if __name__ == "__main__":
    from zoo.commands import ownership

    if owner := ownership.note():
        print(owner, file=sys.stderr)
    main()
