"""Models of a project on those of Hugging Face."""

from __future__ import annotations

from typing import Any

import torch
import transformers


class Headed(transformers.BertModel):
    """A model that is not made from its configuration alone."""

    def __init__(self, config: Any, outputs: int) -> None:
        super().__init__(config)
        self.head = torch.nn.Linear(config.hidden_size, outputs)

    def forward(self, ids: Any) -> Any:
        return (self.head(super().forward(ids)[0]),)
