"""Catalogues: packaged entries and plug-ins' entry points, known without importing either."""

import sys
from importlib.metadata import EntryPoint

import pytest

from zoo.core import catalogue as module
from zoo.core.catalogue import Catalogue, Entry
from zoo.core.errors import RecipeError, UnknownNameError


@pytest.fixture
def plug_ins(tmp_path, monkeypatch):
    """Two installed plug-ins; importing `zoo_plug_in` leaves a trace in `sys.modules`."""
    (tmp_path / "zoo_plug_in.py").write_text("class Outer:\n    inner = 7\n\nthing = object()\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "zoo_plug_in", raising=False)
    points = [
        EntryPoint("theirs", "zoo_plug_in:thing", "zoo.tests"),
        EntryPoint("nested", "zoo_plug_in:Outer.inner", "zoo.tests"),
        EntryPoint("whole", "zoo_plug_in", "zoo.tests"),
        EntryPoint("ours", "zoo_plug_in:thing", "zoo.tests"),
    ]
    monkeypatch.setattr(module, "entry_points", lambda group: [p for p in points if p.group == group])
    yield
    sys.modules.pop("zoo_plug_in", None)


def catalogue(*entries: Entry) -> Catalogue:
    return Catalogue("thing", "zoo.tests", lambda: {entry.name: entry for entry in entries})


OURS = Entry("ours", "math:pi", {"summary": "a number"})


@pytest.mark.usefixtures("plug_ins")
def test_plug_ins_are_listed_without_being_imported():
    assert list(catalogue(OURS).entries()) == ["nested", "ours", "theirs", "whole"]
    assert "zoo_plug_in" not in sys.modules


@pytest.mark.usefixtures("plug_ins")
def test_a_plug_in_is_imported_when_it_is_asked_for():
    listed = catalogue()
    assert listed.entry("theirs").load() is sys.modules["zoo_plug_in"].thing
    assert listed.entry("nested").load() == 7
    assert listed.entry("whole").load() is sys.modules["zoo_plug_in"]


@pytest.mark.usefixtures("plug_ins")
@pytest.mark.parametrize(
    "code", ["1 / 0", "import no_such_module", "thing = ", "sys.modules", "del Outer", "raise OSError"]
)
def test_a_plug_in_that_cannot_be_imported_is_one_sentence(tmp_path, code):
    with (tmp_path / "zoo_plug_in.py").open("a") as file:
        file.write(f"{code}\n")
    with pytest.raises(RecipeError, match=r"^The plug-in zoo_plug_in:Outer.inner failed: \w+Error: [^\n]*\.$"):
        catalogue().entry("nested").load()


@pytest.mark.usefixtures("plug_ins")
def test_a_plug_in_without_its_module_is_left_out_with_one_line(tmp_path, caplog):
    (tmp_path / "zoo_plug_in.py").unlink()
    assert list(catalogue(OURS).entries()) == ["ours"]
    assert caplog.messages[0] == "The thing 'theirs' is left out: there is no module zoo_plug_in."
    assert len(caplog.messages) == 4


@pytest.mark.parametrize("value", ["zoo plug in", "", "..", "a..b:c", ":c"])
def test_a_malformed_entry_point_is_left_out_with_one_line(monkeypatch, caplog, value):
    monkeypatch.setattr(module, "entry_points", lambda group: [EntryPoint("theirs", value, group)])
    assert list(catalogue(OURS).entries()) == ["ours"]
    assert len(caplog.messages) == 1


@pytest.mark.usefixtures("plug_ins")
def test_our_own_entry_wins_over_a_plug_in_of_its_name():
    assert catalogue(OURS).entry("ours").load() == 3.141592653589793
    assert "zoo_plug_in" not in sys.modules


@pytest.mark.usefixtures("plug_ins")
def test_plug_ins_of_another_group_are_not_seen():
    assert list(Catalogue("other", "zoo.others", dict).entries()) == []


@pytest.mark.usefixtures("plug_ins")
def test_an_unknown_name_offers_packaged_and_plugged_in_ones():
    with pytest.raises(UnknownNameError, match=r"'thiers' is not a known thing. Did you mean theirs"):
        catalogue(OURS).entry("thiers")


def test_an_added_entry_is_listed_in_order_and_found():
    listed = catalogue(OURS)
    listed.add(Entry("a_users", "math:e"))
    assert list(listed.entries()) == ["a_users", "ours"]
    assert listed.entry("a_users").load() == 2.718281828459045


def test_packaged_entries_are_read_once():
    calls = []

    def packaged():
        calls.append(0)
        return {"ours": OURS}

    listed = Catalogue("thing", "zoo.tests", packaged)
    listed.entries()
    listed.entry("ours")
    listed.add(Entry("x", "math:e"))
    assert calls == [0]
