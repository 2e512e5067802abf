import os
from collections.abc import Generator

import pytest

from tests.parity.harness import REQUIRED
from tests.parity.summary import PROPERTY


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Generator:
    """Where cases are required, a skipped one fails."""
    report = yield
    is_case = any(name == PROPERTY for name, _ in item.user_properties)
    if report.skipped and is_case and os.environ.get(REQUIRED):
        report.outcome = "failed"
        report.longrepr = f"{REQUIRED} is set, and this was skipped: {report.longrepr[-1]}"
    return report
