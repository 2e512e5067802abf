"""Ctrl-C ends a training between two optimizer steps, with a checkpoint from which it goes on exactly."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType

import lightning.pytorch as L

from zoo.callbacks import Checkpoints
from zoo.module import ZooModule


class Interruptible(L.Callback):
    """The first Ctrl-C lets the running step finish, writes `last.ckpt` and ends the run; a second one ends it at once.

    After an epoch's last step that is when its validation has ended, as everywhere with checkpoints. On several ranks,
    which may be hit in different steps, the first one ends the run at once. A run that ended at once has the checkpoint
    that was written last.

    Args:
        checkpoints: writes the checkpoint.
    """

    def __init__(self, checkpoints: Checkpoints) -> None:
        self.checkpoints = checkpoints
        self._asked = False

    def on_train_start(self, trainer: L.Trainer, pl_module: ZooModule) -> None:
        self._asked = False
        alone = trainer.world_size == 1 and threading.current_thread() is threading.main_thread()
        if alone and not trainer.fast_dev_run:
            signal.signal(signal.SIGINT, self._ask)  # the trainer puts back what was there before the run

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        # No print: it may have been one that the signal interrupted.
        os.write(2, b"Ctrl-C: this optimizer step is finished and saved first; once more stops at once.\n")

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: ZooModule, *args: object) -> None:
        if self._asked and pl_module.at_step_boundary() and not trainer.is_last_batch:
            self.checkpoints.save_last(trainer)
            raise KeyboardInterrupt

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: ZooModule) -> None:
        if self._asked:  # in the previous epoch, whose end has been saved
            raise KeyboardInterrupt

    def on_exception(self, trainer: L.Trainer, pl_module: ZooModule, exception: BaseException) -> None:
        if isinstance(exception, KeyboardInterrupt) and trainer.is_global_zero and trainer.state.fn == "fit":
            at = f"Interrupted at epoch {trainer.current_epoch}, step {pl_module.steps_done}"
            if (saved := self.checkpoints.last_step) is None:
                print(f"{at}, before this run wrote a checkpoint.", file=sys.stderr)
            else:
                path = self.checkpoints.folder / "last.ckpt"
                print(f"{at}. To go on from step {saved}: --ckpt_path {path}", file=sys.stderr)
