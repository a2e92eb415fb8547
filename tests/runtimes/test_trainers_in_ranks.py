"""Promises of the callbacks of Lightning and Transformers in two ranks: after a kill training goes on as if nothing was."""

import numpy as np
import pytest

from airflow_zen import load
from airflow_zen.config.settings import open_stack
from airflow_zen.runtimes import TorchElastic

pytestmark = [pytest.mark.ml, pytest.mark.timeout(1200)]
torch = pytest.importorskip("torch")

_HEADER = """
import os, signal
import numpy as np
from airflow.sdk import dag
from airflow_zen import ml_step

def rows():
    import torch
    inputs = torch.arange(32, dtype=torch.float32).reshape(16, 2) / 32
    return inputs, inputs.sum(dim=1, keepdim=True)

def kill_a_rank(rank: int, step: int) -> None:
    if (rank, step, os.environ["TORCHELASTIC_RESTART_COUNT"]) == (1, 10, "0"):
        os.kill(os.getpid(), signal.SIGKILL)

@dag(schedule=None)
def pipeline():
    fit()
"""

_LIGHTNING = """
@ml_step
def fit() -> tuple[np.ndarray, int]:
    import torch
    from lightning import pytorch as lightning
    from torch import nn
    from airflow_zen.training import LightningCheckpoint

    class Line(lightning.LightningModule):
        steps = 0

        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.layer = nn.Linear(2, 1)

        def training_step(self, batch, number):
            kill_a_rank(self.global_rank, self.global_step)
            self.steps += 1
            return nn.functional.mse_loss(self.layer(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=0.1)

    ckpt, model = LightningCheckpoint(), Line()
    options = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    # Lightning's own sampler shuffles.
    options["use_distributed_sampler"] = False
    trainer = lightning.Trainer(
        max_epochs=4, accelerator="cpu", devices=2, strategy="ddp", callbacks=[ckpt], default_root_dir="FOLDER", **options
    )
    table = torch.utils.data.TensorDataset(*rows())
    sampler = torch.utils.data.DistributedSampler(table, shuffle=False)
    loader = torch.utils.data.DataLoader(table, batch_size=2, sampler=sampler)
    trainer.fit(model, loader, ckpt_path=ckpt.latest())
    return model.layer.weight.detach().numpy(), model.steps
"""

_TRANSFORMERS = """
@ml_step
def fit() -> tuple[np.ndarray, int]:
    import torch
    from torch import nn
    from transformers import Trainer, TrainerCallback, TrainingArguments
    from airflow_zen.training import TransformersCheckpoint

    class Line(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.layer = nn.Linear(2, 1)

        def forward(self, inputs, labels):
            return {"loss": nn.functional.mse_loss(self.layer(inputs), labels)}

    class Steps(TrainerCallback):
        count = 0

        def on_step_begin(self, args, state, control, **options):
            kill_a_rank(args.process_index, state.global_step)
            self.count += 1

    class Ordered(Trainer):
        def _get_train_sampler(self, dataset=None):
            return torch.utils.data.SequentialSampler(self.train_dataset)

    ckpt, model, steps = TransformersCheckpoint(), Line(), Steps()
    options = TrainingArguments(
        "FOLDER", num_train_epochs=4, per_device_train_batch_size=2, learning_rate=0.1, lr_scheduler_type="constant",
        max_grad_norm=0, save_strategy="epoch", use_cpu=True, report_to="none", disable_tqdm=True,
    )
    table = [{"inputs": one, "labels": other} for one, other in zip(*rows())]
    Ordered(model, options, train_dataset=table, callbacks=[ckpt, steps]).train(resume_from_checkpoint=ckpt.latest())
    return model.layer.weight.detach().numpy(), steps.count
"""


def expected():
    """Return the weights after four epochs of batches that are as large as those of both ranks together."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(2, 1)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    inputs = torch.arange(32, dtype=torch.float32).reshape(16, 2) / 32
    for _ in range(4):
        for batch in inputs.split(4):
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(layer(batch), batch.sum(dim=1, keepdim=True)).backward()
            optimizer.step()
    return layer.weight.detach().numpy()


@pytest.mark.parametrize(("library", "text"), [("lightning", _LIGHTNING), ("transformers", _TRANSFORMERS)])
def test_a_killed_rank_goes_on(run_file, tmp_path, library, text):
    """After kill -9 of a rank between two checkpoints both ranks train the epochs that are left, to the same weights."""
    pytest.importorskip(library)
    run = run_file(_HEADER + text.replace("FOLDER", str(tmp_path / "trainer")), TorchElastic(2, max_restarts=1))
    assert run.states == {"fit": "success"}, run.tasks[-1].error
    weights, steps = load(run.xcom("fit"))
    assert steps == 8
    assert np.allclose(weights, expected(), atol=1e-5)
    assert list(open_stack(lineage=False).store.transport.list("checkpoints")) == []
