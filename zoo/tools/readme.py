"""Writes the README's table of methods from their cards: `python -m zoo.tools.readme`."""

from __future__ import annotations

import re
from pathlib import Path

from datamodules.registry import catalogue as datamodules
from zoo.cards import read_head
from zoo.models import card_paths, catalogue

BEGIN, END = "<!-- methods: from the cards, by `python -m zoo.tools.readme` -->", "<!-- end of methods -->"


def table() -> str:
    """Markdown: a row per registered method, by task, papers before their baselines."""
    found = []
    for name, path in card_paths().items():
        card, facts = read_head(path), catalogue.entry(name).facts
        paper = "baseline"
        if card.paper:
            paper = f"{card.paper.venue} {card.paper.year}"
            if card.paper.arxiv:
                paper = f"[{paper}](https://arxiv.org/abs/{card.paper.arxiv})"
        data = ", ".join(data for data in card.datasets if datamodules.entry(data).facts["task"] == facts["task"])
        row = f"| `{name}` | {facts['summary']} | {paper} | {data} |"
        found.append((facts["task"], card.paper is None, row))
    return "\n".join(["| name | what | paper | data |", "|---|---|---|---|", *(row for *_, row in sorted(found))])


def updated(text: str) -> str:
    """`text` of a README with the table between its two marks renewed."""
    pattern = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    return pattern.sub(lambda _: f"{BEGIN}\n{table()}\n{END}", text)


if __name__ == "__main__":
    readme = Path(__file__).parents[2] / "README.md"
    readme.write_text(updated(readme.read_text(encoding="utf-8")), encoding="utf-8")
