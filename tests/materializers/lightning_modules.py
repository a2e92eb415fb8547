"""A Lightning module, in a separate file because it imports lightning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import torch
import torchmetrics
from torch import nn


class Regressor(lightning.LightningModule):
    """A module with hyperparameters, metrics and an optimizer."""

    def __init__(self, width: int, rate: float, options: dict[str, Any], folder: Path, loss: Any = None) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["loss"])
        self.loss = loss or nn.MSELoss()
        self.net = nn.Sequential(nn.Linear(3, width), nn.Linear(width, 1))
        self.error = torchmetrics.MeanSquaredError()
        self.errors = torchmetrics.MetricCollection({"absolute": torchmetrics.MeanAbsoluteError()})

    def training_step(self, batch: Any, index: int) -> Any:
        """Return the loss of a batch."""
        x, y = batch
        predicted = self.net(x)
        self.error(predicted, y)
        self.errors(predicted, y)
        return self.loss(predicted, y)

    def configure_optimizers(self) -> Any:
        """Return the optimizer."""
        return torch.optim.SGD(self.parameters(), lr=self.hparams["rate"])


def fitted() -> Regressor:
    """Return a module after one epoch."""
    model = Regressor(4, 0.1, {"betas": (0.9, 0.99)}, Path("runs"))
    rows = torch.utils.data.TensorDataset(torch.ones(8, 3), torch.ones(8, 1))
    trainer = lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, torch.utils.data.DataLoader(rows, batch_size=4))
    return model
