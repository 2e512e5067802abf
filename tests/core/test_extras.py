"""A package of an extra that is missing: one line with the pip command."""

import math

import pytest

from zoo.core.errors import MissingExtraError, ZooError
from zoo.core.extras import require


def test_an_installed_module_is_given():
    assert require("math", "audio") is math


def test_a_missing_one_names_the_command_that_installs_it():
    with pytest.raises(MissingExtraError) as caught:
        require("zoo_no_such_package", "volumes")
    message = str(caught.value)
    assert "zoo_no_such_package" in message
    assert message.endswith("pip install 'multimodal-zoo[volumes]'")
    assert "\n" not in message


def test_it_can_be_caught_as_ours_and_as_an_import_error():
    for kind in (ZooError, ImportError):
        with pytest.raises(kind):
            require("zoo_no_such_package", "audio")


def test_a_module_that_is_there_but_cannot_load_says_why(tmp_path, monkeypatch):
    (tmp_path / "zoo_half_installed.py").write_text("raise ImportError('libsndfile.so.1 not found')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingExtraError, match=r"libsndfile\.so\.1 not found"):
        require("zoo_half_installed", "audio")
