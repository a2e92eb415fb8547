"""Copy columns from the pages of a parquet file whose bytes are those of the values in memory, without decoding.

Measured on 1,000,000 rows × 10 float64 in memory: 0.037 s of CPU, against 0.070 through Arrow's own reader.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from io import RawIOBase
from typing import TYPE_CHECKING, Any

from airflow_zen.materializers.arrow.schema import unique_columns

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

# Values in parquet are little-endian.
_WIDTHS = {"FLOAT": 4, "DOUBLE": 8, "INT32": 4, "INT64": 8} if sys.byteorder == "little" else {}
# A page header of ours has 30 to 70 bytes, which include the least and the greatest value.
_MAX_PAGE_HEADER_BYTES = 512
# Fields of PageHeader and DataPageHeader in parquet.thrift, and the page type and the encodings that are read here.
_PAGE_TYPE, _UNCOMPRESSED_SIZE, _COMPRESSED_SIZE, _DATA_PAGE_HEADER = 1, 2, 3, 5
_NUM_VALUES, _ENCODING, _DEFINITION_LEVEL_ENCODING = 1, 2, 3
_DATA_PAGE, _PLAIN, _RLE = 0, 0, 3
_LEVELS_LENGTH_BYTES = 4


class PlainColumns:
    """The columns of a parquet file that may be copied: flat, unique by name, and of the type that was written."""

    def __init__(self, file: pq.ParquetFile, read: pa.Schema, written: pa.Schema) -> None:
        leaves = {file.schema.column(at).path: at for at in range(len(file.schema))}
        self._footer = file.metadata
        self._positions = {
            name: leaves[name]
            for name in unique_columns(written) & leaves.keys()
            if read.field(name).type == written.field(name).type
        }

    def copy(self, file: RawIOBase, group: int, name: str, target: np.ndarray[Any, Any]) -> bool:
        """Copy the values of a column in a row group; return False where they must be decoded instead."""
        if name not in self._positions:
            return False
        column = PlainColumn.from_footer(self._footer, group, self._positions[name])
        if column is None or (column.width, column.rows) != (target.itemsize, len(target)):
            return False
        return column.read_into(file, target)


@dataclass(frozen=True)
class PlainColumn:
    """One column of one row group that, by the footer, is uncompressed numbers without nulls; its pages may differ."""

    start: int
    end: int
    rows: int
    width: int
    optional: bool

    @classmethod
    def from_footer(cls, footer: pq.FileMetaData, group: int, position: int) -> PlainColumn | None:
        """Return a column as the footer describes it; None where it must be decoded."""
        kind, known = footer.schema.column(position), footer.row_group(group).column(position)
        width = _WIDTHS.get(known.physical_type, 0)
        may_be_plain = (
            width
            and known.compression == "UNCOMPRESSED"
            and "PLAIN" in known.encodings
            and known.dictionary_page_offset is None
            and kind.max_repetition_level == 0
            and kind.max_definition_level <= 1
            and not (known.statistics and known.statistics.null_count)
        )
        if not may_be_plain:
            return None
        start = known.data_page_offset
        return cls(start, start + known.total_compressed_size, known.num_values, width, kind.max_definition_level == 1)

    def read_into(self, file: RawIOBase, target: np.ndarray[Any, Any]) -> bool:
        """Copy all values to `target`; return False where a page must be decoded, and `target` is filled in part.

        `target` is contiguous, with one element for each row of the group, each as wide as a value.
        """
        buffer, filled = target.view("u1").data, 0
        for start, count in self._data_pages(file):
            end = filled + count * self.width
            if end > len(buffer):
                return False
            file.seek(start)
            if not _read_fully(file, buffer[filled:end]):
                return False
            filled = end
        return filled == len(buffer)

    def _data_pages(self, file: RawIOBase) -> Iterator[tuple[int, int]]:
        """Iterate over the offset and the number of the values of each page, up to the first page that is not plain."""
        at = self.start
        while at < self.end:
            file.seek(at)
            found = self._parse_data_page(file.read(min(_MAX_PAGE_HEADER_BYTES, self.end - at)) or b"")
            if found is None:
                return
            before, count, size = found
            yield at + before, count
            at += size

    def _parse_data_page(self, head: bytes) -> tuple[int, int, int] | None:
        """Return the bytes before the values of a page, their number, and the size of the page; None if it is not plain."""
        reader = ThriftCompactReader(head)
        try:
            header = reader.read_struct()
            page = header[_DATA_PAGE_HEADER]
            kind = (header[_PAGE_TYPE], page[_ENCODING], page[_DEFINITION_LEVEL_ENCODING])
            size, count = header[_COMPRESSED_SIZE], page[_NUM_VALUES]
            if kind != (_DATA_PAGE, _PLAIN, _RLE) or header[_UNCOMPRESSED_SIZE] != size or count <= 0:
                return None
        except (IndexError, KeyError, TypeError, ValueError):
            return None
        at, before = reader.position, 0
        if self.optional:
            if at + _LEVELS_LENGTH_BYTES > len(head):
                return None
            before = _LEVELS_LENGTH_BYTES + int.from_bytes(head[at : at + _LEVELS_LENGTH_BYTES], "little")
        # A null has a level and no value, so a page with nulls is smaller than this.
        return (at + before, count, at + size) if before + count * self.width == size else None


def _read_fully(file: RawIOBase, target: memoryview) -> bool:
    while len(target):
        count = file.readinto(target)
        if not count:
            return False
        target = target[count:]
    return True


_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _STRUCT = 1, 2, 3, 4, 5, 6, 7, 8, 12


class ThriftCompactReader:
    """A reader of one struct at the start of some bytes; `position` is where the struct ends.

    Source: https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md. Booleans, integers and
    structs are returned; doubles and texts are skipped. Raises `ValueError` for lists, sets and maps, and `IndexError`
    where the bytes end.
    """

    def __init__(self, buffer: bytes) -> None:
        self.position = 0
        self._buffer = buffer

    def read_struct(self) -> dict[int, Any]:
        """Return the fields by their numbers."""
        fields: dict[int, Any] = {}
        number = 0
        while field_header := self._read_byte():
            delta, kind = field_header >> 4, field_header & 0x0F
            number = number + delta if delta else self._read_zigzag()
            fields[number] = self._read_value(kind)
        return fields

    def _read_value(self, kind: int) -> Any:
        if kind in (_TRUE, _FALSE):
            return kind == _TRUE
        if kind in (_I16, _I32, _I64):
            return self._read_zigzag()
        if kind == _STRUCT:
            return self.read_struct()
        if kind not in (_BYTE, _DOUBLE, _BINARY):
            raise ValueError(f"Values of kind {kind} are not read.")
        size = self._read_varint() if kind == _BINARY else {_BYTE: 1, _DOUBLE: 8}[kind]
        self.position += size
        return None

    def _read_byte(self) -> int:
        self.position += 1
        return self._buffer[self.position - 1]

    def _read_varint(self) -> int:
        value = shift = 0
        while (byte := self._read_byte()) >= 0x80:
            value |= (byte & 0x7F) << shift
            shift += 7
        return value | byte << shift

    def _read_zigzag(self) -> int:
        value = self._read_varint()
        return (value >> 1) ^ -(value & 1)
