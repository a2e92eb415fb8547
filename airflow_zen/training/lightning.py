"""A callback of Lightning that stores checkpoints of its trainer where the next try of the task finds them."""

from __future__ import annotations

import tempfile
from pathlib import Path

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from airflow_zen.steps.checkpoint import checkpoint


class LightningCheckpoint(Checkpoint):  # type: ignore[misc]
    """Store the trainer's checkpoint after each epoch, of which the last `keep` are kept; Lightning itself stores none.

    `trainer.fit(model, ckpt_path=callback.latest())` goes on from the last one.
    """

    def __init__(self, *, every_n_epochs: int = 1, keep: int = 2) -> None:
        self._checkpoints = checkpoint(keep=keep)
        self._every_n_epochs = every_n_epochs

    def latest(self) -> Path | None:
        """Return the file of the last checkpoint, None where there is none."""
        folder: Path | None = self._checkpoints.latest(Path)
        return folder

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Store a checkpoint."""
        if (trainer.current_epoch + 1) % self._every_n_epochs:
            return
        with tempfile.TemporaryDirectory(prefix="airflow-zen-") as folder:
            path = Path(trainer.strategy.broadcast(folder), "trainer.ckpt")
            # In all ranks, of which each may have a part.
            trainer.save_checkpoint(path)
            self._checkpoints.save(path, step=trainer.global_step)
            trainer.strategy.barrier()
