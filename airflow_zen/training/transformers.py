"""A callback of Transformers that stores checkpoints of its trainer where the next try of the task finds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from airflow_zen.steps.checkpoint import checkpoint


class TransformersCheckpoint(TrainerCallback):  # type: ignore[misc]
    """Store what the trainer saves, as often as its `save_strategy` says; the last `keep` are kept.

    `trainer.train(resume_from_checkpoint=callback.latest())` goes on from the last one.
    """

    def __init__(self, *, keep: int = 2) -> None:
        self._checkpoints = checkpoint(keep=keep)

    def latest(self) -> str | None:
        """Return the directory of the last checkpoint, None where there is none."""
        folder = self._checkpoints.latest(Path)
        return str(folder) if folder else None

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **options: Any) -> None:
        """Store the directory that the trainer has written."""
        from torch import distributed

        if distributed.is_initialized():
            # Each rank writes a part.
            distributed.barrier()
        folder = Path(str(args.output_dir), f"checkpoint-{state.global_step}")
        self._checkpoints.save(folder, step=state.global_step)
