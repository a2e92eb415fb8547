"""Elements of a dataset to TFRecord files, and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from airflow_zen.errors import SaveRefused
from airflow_zen.materializers.base import Materializer
from airflow_zen.materializers.names import type_name
from airflow_zen.materializers.tree import read_typed_json, write_typed_json

RECORDS_FILE = "elements.tfrecord"
METADATA_FILE = "dataset.json"


def save_tf_dataset(materializer: Materializer, dataset: Any, directory: Path) -> Mapping[str, Any]:
    """Write a dataset; raises `SaveRefused` for one without an end, or of elements that are not dense."""
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise SaveRefused("An infinite tf.data.Dataset has no end to store. Use .take(n).")
    spec = _encode_spec(dataset.element_spec)
    count = 0
    with tf.io.TFRecordWriter(str(directory / RECORDS_FILE)) as writer:
        for element in dataset:
            for tensor in tf.nest.flatten(element):
                writer.write(tf.io.serialize_tensor(tensor).numpy())
            count += 1
    write_typed_json(materializer, {"count": count, "spec": spec}, directory, METADATA_FILE)
    return {"shape": f"{count} {'element' if count == 1 else 'elements'}", "rows": count}


def load_tf_dataset(materializer: Materializer, directory: Path) -> Any:
    """Read what `save_tf_dataset` wrote."""
    metadata = read_typed_json(materializer, directory, METADATA_FILE)
    spec = _decode_spec(metadata["spec"])
    leaves = tf.nest.flatten(spec)

    def parse_element(records: Any) -> Any:
        tensors = [
            tf.ensure_shape(tf.io.parse_tensor(records[place], leaf.dtype), leaf.shape)
            for place, leaf in enumerate(leaves)
        ]
        return tf.nest.pack_sequence_as(spec, tensors)

    records = tf.data.TFRecordDataset(str(directory / RECORDS_FILE)).batch(max(1, len(leaves)), drop_remainder=True)
    return records.map(parse_element).apply(tf.data.experimental.assert_cardinality(metadata["count"]))


def _encode_spec(spec: Any) -> Any:
    """Describe the structure of an element with lists in the place of tensor specs."""
    if type(spec) is tf.TensorSpec:
        shape = None if spec.shape.rank is None else spec.shape.as_list()
        return {"dtype": spec.dtype.name, "shape": shape, "name": spec.name}
    if type(spec) is dict:
        return {"dict": [[key, _encode_spec(item)] for key, item in spec.items()]}
    if type(spec) in (tuple, list):
        return {type(spec).__name__: [_encode_spec(item) for item in spec]}
    raise SaveRefused(
        f"An element of this tf.data.Dataset holds a {type_name(type(spec))}. Make it dense tensors in dicts, tuples "
        f"and lists."
    )


def _decode_spec(metadata: Mapping[str, Any]) -> Any:
    if "dtype" in metadata:
        return tf.TensorSpec(metadata["shape"], tf.as_dtype(metadata["dtype"]), metadata["name"])
    if "dict" in metadata:
        return {key: _decode_spec(item) for key, item in metadata["dict"]}
    if "tuple" in metadata:
        return tuple(_decode_spec(item) for item in metadata["tuple"])
    return [_decode_spec(item) for item in metadata["list"]]
