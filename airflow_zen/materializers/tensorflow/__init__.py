"""TensorFlow datasets as TFRecord files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_zen.materializers.base import Materializer


class TfDatasetMaterializer(Materializer):
    """Save the elements of a finite `tf.data.Dataset`, in order, one by one.

    What comes back gives the same elements with the same `element_spec`; how they were made is not kept.
    Refused: infinite datasets, and elements that are not dense tensors in dicts, tuples and lists.
    """

    types = ("tensorflow.python.data.ops.dataset_ops.DatasetV2",)
    encoding = "tensorflow.tfrecord@1"
    libraries = ("tensorflow", "tensorflow-cpu")
    extra = "tensorflow"

    def stored_type(self, value: Any) -> type:
        """Give the one public class of a dataset's many private ones."""
        import tensorflow as tf

        dataset: type = tf.data.Dataset
        return dataset

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        """Write `elements.tfrecord`, a record for each tensor of each element, and `dataset.json`."""
        from airflow_zen.materializers.tensorflow.datasets import save_tf_dataset

        return save_tf_dataset(self, value, directory)

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show what an element is."""
        from airflow_zen.materializers.tensorflow.preview import preview_tf_dataset

        return preview_tf_dataset(value, summary)

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Give a dataset that reads the file as it is iterated."""
        from airflow_zen.materializers.tensorflow.datasets import load_tf_dataset

        return load_tf_dataset(self, directory)
