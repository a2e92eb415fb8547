"""Tables of pandas, Polars and Arrow in the form that a validator takes, whole, as a sample, or batch by batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Protocol

import msgspec
import pyarrow as pa
import pyarrow.dataset as ds

from airflow_zen.errors import InputError
from airflow_zen.type_names import display_name

BATCH_ROWS = 65_536
DATASET = ds.Dataset
"""The type as which a stored table is loaded that is read batch by batch."""
MIXED = b"airflow_zen.mixed"
"""The metadata key of a column whose Python objects have no common type: their types."""


class Batches(Protocol):
    """A table that is read batch by batch, as often as needed; `rows` is None until a stream is read."""

    schema: pa.Schema
    rows: int | None

    def __call__(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Iterate over batches of at most 65,536 rows, of some columns or of all."""
        ...


class TableBatches(msgspec.Struct):
    """The batches of an Arrow table in memory, or of a dataset, which is read from its files."""

    source: Any

    @property
    def schema(self) -> pa.Schema:
        """The columns, those of the index of a pandas frame too."""
        return self.source.schema

    @property
    def rows(self) -> int:
        """The number of rows."""
        return int(self.source.count_rows() if hasattr(self.source, "count_rows") else self.source.num_rows)

    def __call__(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Iterate over batches of at most 65,536 rows."""
        names = self.schema.names if columns is None else list(columns)
        if isinstance(self.source, pa.Table):
            yield from self.source.select(names).to_batches(BATCH_ROWS)
        else:
            for part in self._parts():
                yield from part.to_batches(schema=self.schema, columns=names, batch_size=BATCH_ROWS)

    def _parts(self) -> Iterator[Any]:
        """Yield the row groups of files: a scan of a file reads far ahead of a pass that takes time."""
        for fragment in self.source.get_fragments():
            yield from fragment.split_by_row_group() if hasattr(fragment, "split_by_row_group") else [fragment]

    def take(self, indices: Sequence[int]) -> pa.Table:
        """Return the rows at sorted positions; a dataset is read once, batch by batch."""
        wanted = pa.array(indices, pa.int64())
        if isinstance(self.source, pa.Table):
            return self.source.take(wanted)
        parts, start, at = [], 0, 0
        for batch in self():
            end = at
            while end < len(indices) and indices[end] < start + batch.num_rows:
                end += 1
            parts.append(batch.take(pa.array([index - start for index in indices[at:end]], pa.int64())))
            start, at = start + batch.num_rows, end
        return pa.Table.from_batches(parts, self.schema)


def to_batches(value: Any) -> TableBatches:
    """Return a table of any library as batches; an iterator of tables is read into memory.

    Raises `InputError` for a value that is not a table.
    """
    if hasattr(value, "to_batches"):
        return TableBatches(value if hasattr(value, "schema") else pa.table(value))
    return TableBatches(to_arrow(value))


def to_arrow(value: Any) -> pa.Table:
    """Return a table of pandas, Polars or Arrow as Arrow; raise `InputError` for another value.

    A column of objects without a common type becomes text, and its field says so under `MIXED`.
    """
    module = type(value).__module__.partition(".")[0]
    if isinstance(value, pa.Table):
        return value
    if isinstance(value, pa.RecordBatch):
        return pa.Table.from_batches([value])
    if isinstance(value, pa.RecordBatchReader):
        return value.read_all()
    if module == "pyarrow" and hasattr(value, "to_table"):
        return value.to_table()
    if module == "polars":
        return _from_polars(value)
    if hasattr(value, "dtypes") and hasattr(value, "to_numpy"):
        return _from_pandas(value if value.ndim == 2 else value.to_frame())
    if isinstance(value, Iterator):
        return pa.concat_tables(map(to_arrow, value))
    raise InputError(
        f"Checks take a table of pandas, Polars or Arrow, got {display_name(type(value))}. Return a table from the "
        "step, or write a function that takes this value and returns a ValidationReport."
    )


def to_frame(table: pa.Table) -> Any:
    """Return an Arrow table as a pandas frame, with the index and dtypes that its pandas metadata name."""
    return table.to_pandas()


def index_columns(schema: pa.Schema) -> list[str]:
    """Return the columns that hold the index of a pandas frame."""
    known = (schema.pandas_metadata or {}).get("index_columns", ())
    return [name for name in known if isinstance(name, str) and name in schema.names]


def data_columns(schema: pa.Schema) -> list[str]:
    """Return the columns without those of a pandas index."""
    labels = index_columns(schema)
    return [name for name in schema.names if name not in labels]


def type_text(field: pa.Field) -> str:
    """Return the type of a column for people: Arrow's name of it, or `mixed: int, str`."""
    mixed = (field.metadata or {}).get(MIXED)
    return f"mixed: {mixed.decode()}" if mixed else str(field.type)


def type_kind(field: pa.Field) -> str:
    """Return what kind of values a column has: number, text, boolean, time, null, mixed, or the type itself."""
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if MIXED in (field.metadata or {}):
        return "mixed"
    for name, tests in _KINDS.items():
        if any(test(kind) for test in tests):
            return name
    return str(kind)


_KINDS: Mapping[str, tuple[Any, ...]] = {
    "number": (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal),
    "text": (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view),
    "boolean": (pa.types.is_boolean,),
    "time": (pa.types.is_temporal,),
    "null": (pa.types.is_null,),
}


def _from_polars(value: Any) -> pa.Table:
    """Return a frame, series or query as Arrow; columns of Python objects, which Arrow does not have, as text."""
    if hasattr(value, "collect"):
        value = value.collect()
    frame = value if hasattr(value, "columns") else value.to_frame()
    objects = [name for name, dtype in frame.schema.items() if str(dtype).startswith("Object")]
    table = frame.drop(objects).to_arrow()
    for at, name in enumerate(frame.columns):
        if name in objects:
            items = frame[name].to_list()
            types = ", ".join(sorted({type(item).__name__ for item in items if item is not None})[:5])
            texts = pa.array([None if item is None else _as_text(item) for item in items], pa.string())
            table = table.add_column(at, pa.field(name, pa.string(), metadata={MIXED: types.encode()}), texts)
    return table


def _from_pandas(frame: Any) -> pa.Table:
    if not frame.columns.is_unique or not all(isinstance(name, str) for name in frame.columns):
        frame = frame.set_axis(_distinct_names(frame.columns), axis="columns")
    try:
        return pa.Table.from_pandas(frame)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return _from_mixed_columns(frame)


def _distinct_names(names: Iterable[Any]) -> list[str]:
    """Return names as text; a repeated one is numbered."""
    found: list[str] = []
    for name in map(str, names):
        found.append(
            next(each for each in chain([name], (f"{name}.{n}" for n in range(1, len(found) + 2))) if each not in found)
        )
    return found


def _from_mixed_columns(frame: Any) -> pa.Table:
    """Return a frame of which some columns cannot be Arrow's; these become text."""
    mixed: dict[str, str] = {}
    for name in frame.columns:
        try:
            pa.Array.from_pandas(frame[name])
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            types = sorted({type(item).__name__ for item in frame[name].dropna().head(BATCH_ROWS)})
            mixed[name] = ", ".join(types[:5])
            frame = frame.assign(**{name: frame[name].map(_as_text, na_action="ignore").astype("string")})
    table = pa.Table.from_pandas(frame)
    for name, types_text in mixed.items():
        at = table.schema.get_field_index(name)
        field = table.schema.field(at).with_metadata({MIXED: types_text.encode()})
        table = table.set_column(at, field, table.column(at))
    return table.replace_schema_metadata(pa.Schema.from_pandas(frame).metadata)


def _as_text(value: Any) -> str:
    return str(value)[:1000]
