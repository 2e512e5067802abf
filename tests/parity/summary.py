"""The line that ends a run in which parity cases were collected."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest

PROPERTY = "parity_case"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    ran = {
        outcome: sum(_is_case(report) for report in terminalreporter.stats.get(outcome, ()))
        for outcome in ("passed", "skipped", "failed", "error")
    }
    if not any(ran.values()):
        return
    # Imported late: a controller of several processes has run no test and would load torch before them.
    from tests.parity import harness

    without: dict[str, list[str]] = defaultdict(list)
    for case in harness.uncovered(harness.collect(harness.parity_root())):
        without[case.method].append(case.path.stem)
    for method, names in without.items():
        terminalreporter.write_line(f"not covered: {method} {len(names)}: {', '.join(names)}")
    count = sum(map(len, without.values()))
    terminalreporter.write_line(f"parity: {ran['passed']} passed, {ran['skipped']} skipped, {count} uncovered")


def _is_case(report: Any) -> bool:
    return isinstance(report, pytest.TestReport) and any(name == PROPERTY for name, _ in report.user_properties)
