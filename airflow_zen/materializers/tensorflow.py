"""TensorFlow datasets as TFRecord files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from airflow_zen.errors import SaveRefused
from airflow_zen.markup import format_count
from airflow_zen.materializers.base import Materializer
from airflow_zen.materializers.previews.html import heading, preformatted, preview_page
from airflow_zen.materializers.previews.tables import MAX_PREVIEW_ROWS, plain_table
from airflow_zen.materializers.typed_json import read_typed_json, write_typed_json
from airflow_zen.type_names import type_name

RECORDS_FILE = "elements.tfrecord"
METADATA_FILE = "dataset.json"
_MAX_CELL_VALUES = 8
_WAY_OUT = "or call dataset.save('elements') and return pathlib.Path('elements'), which tf.data.Dataset.load() reads."


class TfDatasetMaterializer(Materializer):
    """Save the elements of a finite `tf.data.Dataset`, in order, one by one.

    The loaded dataset has the same elements and the same `element_spec`; how they were computed is not kept.
    Refused: infinite datasets, elements that are not dense tensors in dicts, tuples and lists, and tensors of quantized
    numbers or of fewer than 8 bits a number.
    """

    types = ("tensorflow.python.data.ops.dataset_ops.DatasetV2",)
    encoding = "tensorflow.tfrecord@1"
    libraries = ("tensorflow", "tensorflow-cpu")
    extra = "tensorflow"

    def stored_type(self, value: Any) -> type:
        """Return the one public class of a dataset's many private ones."""
        import tensorflow as tf

        dataset: type = tf.data.Dataset
        return dataset

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        """Write `elements.tfrecord`, a record for each tensor of each element, and `dataset.json`."""
        import tensorflow as tf

        if value.cardinality() == tf.data.INFINITE_CARDINALITY:
            raise SaveRefused("An infinite tf.data.Dataset has no end to store. Return dataset.take(n).")
        spec, count = _encode_spec(value.element_spec), 0
        with tf.io.TFRecordWriter(str(directory / RECORDS_FILE)) as writer:
            for element in value:
                for tensor in tf.nest.flatten(element):
                    writer.write(_serialize(tensor))
                count += 1
        write_typed_json(self, {"count": count, "spec": spec}, directory, METADATA_FILE)
        return {"shape": format_count(count, "element"), "rows": count}

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Return a dataset that reads the file while it is iterated."""
        import tensorflow as tf

        metadata = read_typed_json(self, directory, METADATA_FILE)
        spec = _decode_spec(metadata["spec"])
        leaves = tf.nest.flatten(spec)

        def parse_element(records: Any) -> Any:
            parsed = (tf.io.parse_tensor(records[place], leaf.dtype) for place, leaf in enumerate(leaves))
            return tf.nest.pack_sequence_as(spec, list(map(tf.ensure_shape, parsed, (leaf.shape for leaf in leaves))))

        records = tf.data.TFRecordDataset(str(directory / RECORDS_FILE)).batch(max(1, len(leaves)), drop_remainder=True)
        return records.map(parse_element).apply(tf.data.experimental.assert_cardinality(metadata["count"]))

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show the first 20 elements, and the shapes and dtypes of an element."""
        import tensorflow as tf

        leaves = tf.nest.flatten(value.element_spec)
        names = [
            f"{place}: {leaf.dtype.name} {leaf.shape}"
            for place, leaf in zip(_leaf_names(value.element_spec), leaves, strict=True)
        ]
        rows = ([_cell(tensor) for tensor in tf.nest.flatten(element)] for element in value.take(MAX_PREVIEW_ROWS))
        sections = [heading("The first elements"), plain_table(names, rows), heading("An element")]
        return preview_page(value, summary, [*sections, preformatted(repr(value.element_spec))], "Dataset")


def _serialize(tensor: Any) -> bytes:
    import tensorflow as tf

    try:
        record: bytes = tf.io.serialize_tensor(tensor).numpy()
    except tf.errors.NotFoundError as error:  # there is no kernel for the dtype
        raise SaveRefused(
            f"TensorFlow does not serialize the {tensor.dtype.name} in an element of this tf.data.Dataset. Convert it with "
            f"tf.cast, {_WAY_OUT}"
        ) from error
    return record


def _leaf_names(spec: Any, prefix: str = "") -> Iterator[str]:
    """Yield the name of each tensor of an element, in the order of `tf.nest.flatten`: keys and positions."""
    if isinstance(spec, dict):
        named = sorted(spec.items())
    elif isinstance(spec, tuple | list):
        named = [(str(at), item) for at, item in enumerate(spec)]
    else:
        yield prefix or "element"
        return
    for name, item in named:
        yield from _leaf_names(item, f"{prefix}.{name}" if prefix else str(name))


def _cell(tensor: Any) -> Any:
    """Return the text of a tensor for a cell: its first numbers, or its text."""
    shown = tensor.numpy()
    if isinstance(shown, bytes):
        return shown.decode(errors="replace")
    return shown if shown.ndim == 0 else shown.ravel()[:_MAX_CELL_VALUES].tolist()


def _encode_spec(spec: Any) -> Any:
    """Return the structure of an element as typed JSON."""
    import tensorflow as tf

    if type(spec) is tf.TensorSpec:
        shape = None if spec.shape.rank is None else spec.shape.as_list()
        return {"dtype": spec.dtype.name, "shape": shape, "name": spec.name}
    if type(spec) is dict:
        return {"dict": [[key, _encode_spec(item)] for key, item in spec.items()]}
    if type(spec) in (tuple, list):
        return {type(spec).__name__: [_encode_spec(item) for item in spec]}
    if type(spec) is tf.data.DatasetSpec:
        raise SaveRefused(
            "An element of this tf.data.Dataset is a dataset itself, such as a window. Make it a tensor: "
            "dataset.flat_map(lambda window: window.batch(n)) for windows of n tensors."
        )
    raise SaveRefused(
        f"An element of this tf.data.Dataset holds a {type_name(type(spec))}. Make it dense tensors in dicts, tuples "
        f"and lists, {_WAY_OUT}"
    )


def _decode_spec(metadata: Mapping[str, Any]) -> Any:
    import tensorflow as tf

    if "dtype" in metadata:
        return tf.TensorSpec(metadata["shape"], tf.as_dtype(metadata["dtype"]), metadata["name"])
    if "dict" in metadata:
        return {key: _decode_spec(item) for key, item in metadata["dict"]}
    if "tuple" in metadata:
        return tuple(map(_decode_spec, metadata["tuple"]))
    return list(map(_decode_spec, metadata["list"]))
