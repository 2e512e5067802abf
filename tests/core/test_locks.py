"""Processes that wait for each other."""

from __future__ import annotations

import threading

import pytest

from zoo.core.locks import lock

pytest.importorskip("fcntl")


@pytest.mark.parametrize("name", [".", "new/a.lock"])
def test_one_at_a_time_holds_a_lock(tmp_path, name):
    entered, order = threading.Event(), []

    def second() -> None:
        entered.set()
        with lock(tmp_path / name):
            order.append("second")

    with lock(tmp_path / name):
        thread = threading.Thread(target=second)
        thread.start()
        entered.wait()
        thread.join(0.05)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_where_none_is_to_be_had_work_goes_on(tmp_path):
    (tmp_path / "file").touch()
    with lock(tmp_path / "file" / "a.lock"):
        pass
