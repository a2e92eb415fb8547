"""What the footer of a parquet file says, that somebody else wrote and that stays where it lies."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from airflow_zen.artifacts.source import RangeReader
from airflow_zen.errors import ArtifactRefused
from airflow_zen.materializers.arrow.statistics import footer_statistics
from airflow_zen.materializers.arrow.summary import summarize_table


def summarize_parquet(source: RangeReader, location: str) -> dict[str, Any]:
    """Summarise a parquet file as if it had been saved; only its footer is read. Raises `ArtifactRefused` for none."""
    try:
        file = pq.ParquetFile(source)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ArtifactRefused(
            f"{location} is called .parquet, and is no parquet file that Arrow reads: {error}"
        ) from error
    known = footer_statistics(file.metadata)
    columns = [
        {"name": field.name, "type": str(field.type), **known.get(field.name, {})} for field in file.schema_arrow
    ]
    return summarize_table(file.metadata.num_rows, columns)
