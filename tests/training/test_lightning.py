"""Promises of the callback of Lightning."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from tests.calls import record_call, recorded_calls

pytestmark = [pytest.mark.ml, pytest.mark.filterwarnings("ignore")]
pytest.importorskip("lightning")


def fit(epochs: int, broken: str) -> np.ndarray:
    """Fit a line, and return it; the process is killed in the fourth epoch while a file exists."""
    import torch
    from lightning import pytorch as lightning
    from torch import nn

    from airflow_zen.training import LightningCheckpoint

    class Line(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.layer = nn.Linear(2, 1)

        def on_train_epoch_start(self) -> None:
            record_call(str(self.current_epoch))
            if self.current_epoch == 3 and Path(broken).exists():
                os.kill(os.getpid(), signal.SIGKILL)

        def training_step(self, batch: list[torch.Tensor], number: int) -> torch.Tensor:
            return nn.functional.mse_loss(self.layer(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=0.1)

    inputs = torch.arange(32, dtype=torch.float32).reshape(16, 2) / 32
    table = torch.utils.data.TensorDataset(inputs, inputs.sum(dim=1, keepdim=True))
    ckpt, model = LightningCheckpoint(), Line()
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        callbacks=[ckpt],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=str(Path(broken).parent),
    )
    trainer.fit(model, torch.utils.data.DataLoader(table, batch_size=4), ckpt_path=ckpt.latest())
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
    assert list(tmp_path.rglob("*.ckpt")) == []
