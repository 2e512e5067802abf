import hypothesis
import torch

from tests.parity.summary import pytest_terminal_summary  # noqa: F401 (a hook)

# The same examples in every run: a change that fails does so at once, and one that passes does not fail later.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")

# Sums in float32 depend on the number of threads, and some trajectories of training grow such differences beyond what a
# parity case allows. And where a machine is busy, threads that wait for each other make small operations slow.
torch.set_num_threads(1)
