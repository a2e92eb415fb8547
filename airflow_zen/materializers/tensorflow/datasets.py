"""Elements of a dataset to TFRecord files, and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from airflow_zen.errors import SaveRefused
from airflow_zen.materializers.base import Materializer
from airflow_zen.materializers.names import type_name
from airflow_zen.materializers.tree import read_tree, write_tree

RECORDS = "elements.tfrecord"
NOTE = "dataset.json"


def save_dataset(materializer: Materializer, dataset: Any, directory: Path) -> Mapping[str, Any]:
    """Write a dataset; raises `SaveRefused` for one without an end, or of elements that are not dense."""
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise SaveRefused("An infinite tf.data.Dataset has no end to store. Use .take(n).")
    spec = _spec(dataset.element_spec)
    count = 0
    with tf.io.TFRecordWriter(str(directory / RECORDS)) as writer:
        for element in dataset:
            for tensor in tf.nest.flatten(element):
                writer.write(tf.io.serialize_tensor(tensor).numpy())
            count += 1
    write_tree(materializer, {"count": count, "spec": spec}, directory, NOTE)
    return {"shape": f"{count} {'element' if count == 1 else 'elements'}", "rows": count}


def load_dataset(materializer: Materializer, directory: Path) -> Any:
    """Read what `save_dataset` wrote."""
    note = read_tree(materializer, directory, NOTE)
    spec = _from_spec(note["spec"])
    leaves = tf.nest.flatten(spec)

    def parsed(records: Any) -> Any:
        tensors = [
            tf.ensure_shape(tf.io.parse_tensor(records[place], leaf.dtype), leaf.shape)
            for place, leaf in enumerate(leaves)
        ]
        return tf.nest.pack_sequence_as(spec, tensors)

    records = tf.data.TFRecordDataset(str(directory / RECORDS)).batch(max(1, len(leaves)), drop_remainder=True)
    return records.map(parsed).apply(tf.data.experimental.assert_cardinality(note["count"]))


def _spec(spec: Any) -> Any:
    """Describe the structure of an element with lists in the place of tensor specs."""
    if type(spec) is tf.TensorSpec:
        shape = None if spec.shape.rank is None else spec.shape.as_list()
        return {"dtype": spec.dtype.name, "shape": shape, "name": spec.name}
    if type(spec) is dict:
        return {"dict": [[key, _spec(item)] for key, item in spec.items()]}
    if type(spec) in (tuple, list):
        return {type(spec).__name__: [_spec(item) for item in spec]}
    raise SaveRefused(
        f"An element of this tf.data.Dataset holds a {type_name(type(spec))}. Make it dense tensors in dicts, tuples "
        f"and lists."
    )


def _from_spec(note: Mapping[str, Any]) -> Any:
    if "dtype" in note:
        return tf.TensorSpec(note["shape"], tf.as_dtype(note["dtype"]), note["name"])
    if "dict" in note:
        return {key: _from_spec(item) for key, item in note["dict"]}
    if "tuple" in note:
        return tuple(_from_spec(item) for item in note["tuple"])
    return [_from_spec(item) for item in note["list"]]
