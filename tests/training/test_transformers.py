"""Promises of the callback of Transformers."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from tests.calls import record_call, recorded_calls

pytestmark = [pytest.mark.ml, pytest.mark.filterwarnings("ignore")]
pytest.importorskip("transformers")


def fit(epochs: int, broken: str) -> np.ndarray:
    """Fit a line, and return it; the process is killed in the fourth epoch while a file exists."""
    import tempfile

    import torch
    from torch import nn
    from transformers import Trainer, TrainerCallback, TrainingArguments

    from airflow_zen.training import TransformersCheckpoint

    class Line(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.layer = nn.Linear(2, 1)

        def forward(self, inputs: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"loss": nn.functional.mse_loss(self.layer(inputs), labels)}

    class Epochs(TrainerCallback):
        def on_epoch_begin(self, args, state, control, **options):
            record_call(str(round(state.epoch)))
            if state.epoch == 3 and Path(broken).exists():
                os.kill(os.getpid(), signal.SIGKILL)

    inputs = torch.arange(32, dtype=torch.float32).reshape(16, 2) / 32
    rows = [{"inputs": row, "labels": row.sum(dim=0, keepdim=True)} for row in inputs]
    ckpt, model = TransformersCheckpoint(), Line()
    options = TrainingArguments(
        tempfile.mkdtemp(),
        num_train_epochs=epochs,
        per_device_train_batch_size=4,
        learning_rate=0.1,
        save_strategy="epoch",
        save_total_limit=1,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
    )
    trainer = Trainer(model, options, train_dataset=rows, callbacks=[ckpt, Epochs()])
    trainer.train(resume_from_checkpoint=ckpt.latest())
    return model.layer.weight.detach().numpy()


def test_a_killed_trainer_goes_on(run, run_killed, stack, tmp_path):
    """The try after a kill -9 trains the epochs that are left, and ends with the model of a try that was not killed."""
    broken = tmp_path / "broken"
    broken.touch()
    assert run_killed(fit, 5, str(broken), try_number=1) == signal.SIGKILL
    assert len({key.split("/")[6] for key in stack.store.transport.list("checkpoints")}) == 2
    broken.unlink()
    goes_on = run(fit, 5, str(broken), try_number=2)
    assert recorded_calls() == ["0", "1", "2", "3", "3", "4"]
    undisturbed = run(fit, 5, str(broken), task="other")
    assert goes_on.outputs["output"].digest == undisturbed.outputs["output"].digest
