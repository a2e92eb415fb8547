"""Hugging Face models and tokenizers, as `save_pretrained` writes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_zen.materializers.base import Materializer


class PretrainedMaterializer(Materializer):
    """Save a model's configuration and weights, or a tokenizer, in a folder that `from_pretrained` reads.

    Kept of a model too: training or evaluation mode of each part, and which weights are frozen. Nothing is fetched from a hub,
    and no code of the folder is run. Refused: models whose weights have several dtypes, or do not come
    back all the same.
    """

    types = (
        "transformers.modeling_utils.PreTrainedModel",
        "transformers.tokenization_utils_base.PreTrainedTokenizerBase",
    )
    encoding = "transformers.pretrained@1"
    libraries = ("transformers", "tokenizers", "safetensors", "torch")
    extra = "transformers"

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        """Write `pretrained/` and `class.json`."""
        from airflow_zen.materializers.transformers.pretrained import save_pretrained

        return save_pretrained(self, value, directory)

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show configuration and layers."""
        from airflow_zen.materializers.transformers.preview import preview_pretrained

        return preview_pretrained(value, summary)

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read the model, on the CPU, or the tokenizer."""
        from airflow_zen.materializers.transformers.pretrained import load_pretrained

        return load_pretrained(self, directory, wanted)
