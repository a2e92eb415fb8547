"""A user's own module, in a separate file because it imports torch."""

from __future__ import annotations

from typing import Any

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
