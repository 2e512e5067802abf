"""Silences messages that a user can do nothing about, each by its own words."""

from __future__ import annotations

import logging
import warnings

_LINES = (
    "💡 Tip:",
    "\nDetected KeyboardInterrupt",  # we say where the checkpoint is
)

_WARNINGS = (
    # Lightning calls what jsonargparse 5 will remove; that version is excluded.
    r"(?s)\s*``ArgumentParser.add_instantiator`` was deprecated",
    r"(?s)\s*By default only one JsonargparseDeprecationWarning per type is shown",
    # Lightning about its own use of torch.
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    # log_every_n_steps is our default; metrics of whole epochs are logged all the same.
    r"The number of training batches \(\d+\) is smaller than the logging interval",
    # A data set may have no validation split.
    r"Total length of `list` across ranks is zero",
    # A data set may have no boxes of its findings.
    r"The ``compute`` method of metric LocalisationMetric was called before the ``update`` method",
    # Modules of volumes say what stays on the host; data modules have no say in it.
    r"You have overridden `transfer_batch_to_device` in `LightningModule`",
    # srun is installed on machines that run no SLURM job; in a job Lightning finds out by itself.
    r"The `srun` command is available on your system but is not used",
)


class _WithoutLines(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith(_LINES)


def silence() -> None:
    """Install the filters. Everything else stays visible."""
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_WithoutLines())
    for message in _WARNINGS:
        warnings.filterwarnings("ignore", message=message)
