"""`zoo show NAME`: a method's card."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from zoo import models
from zoo.cards import Card
from zoo.tools.published import published
from zoo.tools.text import paragraph, table


def configure(parser: ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="as `zoo list` has it, or the folder of a paper")
    parser.set_defaults(run=run)


def run(args: Namespace) -> None:
    print("\n\n".join(part for part in sections(models.card(args.name)) if part))


def sections(card: Card) -> list[str]:
    """The card as text, part by part."""
    return [
        paragraph(card.summary),
        _paper(card),
        "Models\n" + "\n".join(f"  {name} ({model.task}): {model.summary}" for name, model in card.models.items()),
        "Data modules: " + ", ".join(card.datasets),
        _checkpoints(card),
        "Published numbers\n\n" + published(card) if card.results else "",
        "Decisions\n" + "\n".join(paragraph(text, "  ", "- ") for text in card.decisions) if card.decisions else "",
        card.paper.bibtex.strip() if card.paper else "",
    ]


def _paper(card: Card) -> str:
    paper = card.paper
    if paper is None:
        return f"Licence: {card.licence}"
    facts = {
        "Venue": paper.when,
        "arXiv": paper.arxiv,
        "Code": paper.code,
        "Licence": card.licence,
    }
    return "\n".join(
        [
            paragraph(paper.title),
            paragraph(", ".join(paper.authors)),
            *(f"{name}: {text}" for name, text in facts.items() if text),
        ]
    )


def _checkpoints(card: Card) -> str:
    if isinstance(card.checkpoints, str):
        return f"Published checkpoints: {card.checkpoints}"
    rows = [(each.name, each.file, each.licence, each.sha256[:12], each.url) for each in card.checkpoints]
    return "Published checkpoints\n" + table(("name", "file", "licence", "sha256", "url"), rows)
