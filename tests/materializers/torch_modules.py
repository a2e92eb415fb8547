"""A user's own module, in a separate file because it imports torch."""

from __future__ import annotations

import functools
import logging
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn


class Tied(nn.Module):
    """A module with a shared weight, a function, a dtype, unregistered modules, and a buffer outside the state."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 3)
        self.out = nn.Linear(3, 5, bias=False)
        self.out.weight = self.embedding.weight
        self.activation = torch.tanh
        self.dtype = torch.float16
        self.size = torch.Size([2, 3])
        self.options = {"rates": (0.1, [2])}
        self.unregistered = [nn.Linear(1, 1)]
        self.register_buffer("scale", torch.ones(2), persistent=False)

    def forward(self, x: Any) -> Any:
        """Embed, and return scores."""
        return self.activation(self.out(self.embedding(x)))


def double(x: Any) -> Any:
    """Return twice the values."""
    return x * 2


class Settings:
    """Options without a form of their own."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.schedule = {"steps": (1, 2)}


class Around(nn.Module):
    """A head on a pretrained model."""

    def __init__(self, body: Any) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Linear(8, 2)

    def forward(self, **inputs: Any) -> Any:
        """Return scores of the first token."""
        return self.head(self.body(**inputs).last_hidden_state[:, 0])


class Configured(nn.Module):
    """A module whose attributes are what research code keeps there."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_layer = functools.partial(nn.LayerNorm, eps=1e-6)
        self.leaky = functools.partial(nn.functional.leaky_relu, negative_slope=0.2)
        self.block = nn.ReLU
        self.optimizer_class = torch.optim.AdamW
        self.own_block = Around
        self.function = double
        self.method = self.scale
        self.checkpoints = Path("/mnt/checkpoints")
        self.relative = PurePosixPath("a/b")
        self.generator = torch.Generator().manual_seed(7)
        self.logger = logging.getLogger("training")
        self.settings = Settings(0.1)
        self.same_settings = self.settings
        self.table = pd.DataFrame({"word": ["a", "b"]})
        self.weights = np.array([0.5, 1.5])
        self.memory_format = torch.channels_last
        self.layers = nn.Sequential(self.norm_layer(3), self.block())
        self.layers[0].weight.no_decay = True
        self.layers[0].bias._group = "norms"

    def scale(self, x: Any) -> Any:
        """Return half the values."""
        return x / 2

    def forward(self, x: Any) -> Any:
        """Run all of them."""
        return self.method(self.leaky(self.function(self.layers(x))))


class Packed(nn.Linear):
    """A module whose state is no dict."""

    def __getstate__(self) -> Any:
        """Return the weights only."""
        return (self.weight, self.bias)


class Switched(nn.Module):
    """A module that holds the one of its methods that it uses."""

    def __init__(self) -> None:
        super().__init__()
        self.function = self.halve

    def halve(self, x: torch.Tensor) -> torch.Tensor:
        """Return half of the input."""
        return x / 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the method."""
        return self.function(x)
