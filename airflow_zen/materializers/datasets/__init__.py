"""Hugging Face datasets as Arrow files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_zen.materializers.base import Materializer


class DatasetsMaterializer(Materializer):
    """Save a dataset, or a dict of splits, the way `save_to_disk` lays it out; `load_from_disk` reads it too.

    Kept: rows, features, split, format, description. The fingerprint, the key of the library's own cache,
    becomes that of the content.
    """

    types = ("datasets.arrow_dataset.Dataset", "datasets.dataset_dict.DatasetDict")
    encoding = "datasets.arrow@1"
    own_folder = True
    libraries = ("datasets", "pyarrow")
    extra = "datasets"

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        """Write `dataset/`."""
        from airflow_zen.materializers.datasets.disk import save_huggingface_dataset

        return save_huggingface_dataset(value, directory)

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show the first rows of each split."""
        from airflow_zen.materializers.datasets.preview import preview_huggingface_dataset

        return preview_huggingface_dataset(value, summary)

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Map the Arrow files into memory."""
        from airflow_zen.materializers.datasets.disk import load_huggingface_dataset

        return load_huggingface_dataset(directory)
