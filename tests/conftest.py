import hypothesis

from tests.parity.summary import pytest_terminal_summary  # noqa: F401 (a hook)

# The same examples in every run: a change that fails does so at once, and one that passes does not fail later.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")
