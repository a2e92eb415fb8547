"""Tables of Arrow and polars as pandas, with the values that they have."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pandas as pd
import pyarrow as pa

# pandas' own numbers for missing integers are floats, which have not all integers; its booleans become objects.
_NULLABLE_DTYPES: dict[Any, Any] = {
    **{getattr(pa, name)(): getattr(pd, f"{name.capitalize()}Dtype")() for name in ("int8", "int16", "int32", "int64")},
    **{getattr(pa, f"uint{bits}")(): getattr(pd, f"UInt{bits}Dtype")() for bits in (8, 16, 32, 64)},
    pa.bool_(): pd.BooleanDtype(),
}


def arrow_to_pandas(table: pa.Table, with_nulls: Collection[str] | None = None) -> pd.DataFrame:
    """Give a table as a frame: integers and booleans of columns that have nulls in a nullable dtype.

    `with_nulls` names those columns, where a table is a part of one and may have none of its nulls.
    """
    frame: pd.DataFrame = table.to_pandas()
    for at, (field, column) in enumerate(zip(table.schema, table.columns, strict=True)):
        has_nulls = column.null_count if with_nulls is None else field.name in with_nulls
        if not has_nulls or field.type not in _NULLABLE_DTYPES:
            continue
        position = at if frame.shape[1] == table.num_columns else _column_position(frame, field.name)
        if position is not None:
            frame.isetitem(position, column.to_pandas(types_mapper=_NULLABLE_DTYPES.get).array)
    return frame


def _column_position(frame: pd.DataFrame, name: str) -> int | None:
    """Say where a column of a table stands in its frame; None where it became row labels."""
    names = list(frame.columns)
    return names.index(name) if name in names else None
