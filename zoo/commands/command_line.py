"""Takes the command line apart. No option is abbreviated; recipes may stand before or after the verb."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from zoo.core.errors import RecipeError
from zoo.core.names import did_you_mean

VERBS = ("fit", "validate", "test", "predict")


@dataclass(frozen=True)
class Option:
    """One `--key=value`, without its dashes; `--key+=value` appends to a list."""

    key: str
    value: str
    append: bool = False


@dataclass
class CommandLine:
    """What was asked for.

    Attributes:
        verb: one of :data:`VERBS`, or `None`.
        configs: recipes, in order.
        options: changes to them, in order; they win over all recipes.
        print_config: whether the resolved recipe is to be printed instead of run.
        help: `--help`, or `--model.help CLASS` and the like, as typed; empty if no help is asked for.
        version: whether the version is to be printed.
    """

    verb: str | None = None
    configs: list[str] = field(default_factory=list)
    options: list[Option] = field(default_factory=list)
    print_config: bool = False
    help: list[str] = field(default_factory=list)
    version: bool = False


def parse(args: Sequence[str]) -> CommandLine:
    """Take `args` apart.

    Raises:
        RecipeError: a word that is no verb, an option without a value.
    """
    command, words = CommandLine(), iter(args)
    for word in words:
        if word in ("-h", "--help"):
            command.help = ["--help"]
        elif word == "--version":
            command.version = True
        elif word == "--print_config":
            command.print_config = True
        elif word == "-c":
            command.configs.append(_value(word, words))
        elif word.startswith("--"):
            _option(command, word, words)
        elif word.startswith("-"):
            raise RecipeError(f"{word} is not an option; -c is the only short one.")
        elif command.verb is None:
            if word not in VERBS:
                raise RecipeError(f"{word!r} is not a verb of lightning. {did_you_mean(word, VERBS)}")
            command.verb = word
        else:
            raise RecipeError(f"{word!r} stands alone. Recipes follow -c, values follow their option.")
    return command


def _option(command: CommandLine, word: str, words: Iterator[str]) -> None:
    key, equals, value = word.removeprefix("--").partition("=")
    if key.endswith(".help"):
        given = value if equals else next(words, "")
        command.help = [f"--{key}", given] if given else [f"--{key}"]
        return
    if not equals:
        value = _value(word, words)
    if key == "config":
        command.configs.append(value)
        return
    key = "allow_missing" if key == "allow-missing" else key  # as `zoo import` spells it, and messages do
    append = key.endswith("+")
    command.options.append(Option(key.removesuffix("+"), value, append))


def _value(option: str, words: Iterator[str]) -> str:
    """The word after `option`; a negative number is one, another option is not."""
    word = next(words, None)
    if word is None or (word.startswith("-") and not word[1:2].isdigit() and word[1:2] != "."):
        raise RecipeError(f"{option} needs a value.")
    return word
