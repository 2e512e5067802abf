"""The README's table is what the cards say."""

from pathlib import Path

from zoo.tools.readme import BEGIN, END, table, updated

README = Path(__file__).parents[2] / "README.md"


def test_readme_has_the_table_of_the_cards():
    text = README.read_text(encoding="utf-8")
    assert table() in text, "run: python -m zoo.tools.readme"
    assert updated(text) == text


def test_a_stale_table_is_renewed():
    assert updated(f"before\n{BEGIN}\nold\n{END}\nafter") == f"before\n{BEGIN}\n{table()}\n{END}\nafter"
