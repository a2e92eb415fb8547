"""Columns of a parquet file that lie in it as they do in memory: they are copied to their place, and not decoded."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from io import RawIOBase
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pyarrow.parquet as pq


# Parquet has the least byte first.
_WIDTHS = {"FLOAT": 4, "DOUBLE": 8, "INT32": 4, "INT64": 8} if sys.byteorder == "little" else {}
# A page of ours has a header of 30 to 70 bytes; it says the least and the greatest of its values.
_MAX_PAGE_HEADER_BYTES = 512
# The fields of parquet.thrift's PageHeader and DataPageHeader, and the kinds of page and encoding that are read here.
_PAGE_TYPE, _UNCOMPRESSED_SIZE, _COMPRESSED_SIZE, _DATA_PAGE_HEADER = 1, 2, 3, 5
_NUM_VALUES, _ENCODING, _DEFINITION_LEVEL_ENCODING = 1, 2, 3
_DATA_PAGE, _PLAIN, _RLE = 0, 0, 3
_LEVELS_LENGTH_BYTES = 4


@dataclass(frozen=True)
class PlainColumn:
    """One column of one row group, of numbers without a null among them, as its footer tells; its pages may tell otherwise."""

    start: int
    end: int
    rows: int
    width: int
    optional: bool

    @classmethod
    def from_footer(cls, footer: pq.FileMetaData, group: int, position: int) -> PlainColumn | None:
        """Describe a column, None where it must be decoded."""
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
        """Copy the values, and tell whether all are there; where not, `target` is to be filled in another way.

        `target` has a place for each row of the group, one beside the other, each as wide as a value.
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
        """Give where the values of each page begin, and how many they are, up to the first page that is not plain."""
        at = self.start
        while at < self.end:
            file.seek(at)
            head = file.read(min(_MAX_PAGE_HEADER_BYTES, self.end - at)) or b""
            found = self._parse_data_page(head)
            if found is None:
                return
            before, count, size = found
            yield at + before, count
            at += size

    def _parse_data_page(self, head: bytes) -> tuple[int, int, int] | None:
        """Give what lies before a page's values, their number, and the size of all; None where they must be decoded."""
        reader = ThriftCompactReader(head)
        try:
            header = reader.read_struct()
            data_page_header = header[_DATA_PAGE_HEADER]
            plain = (header[_PAGE_TYPE], data_page_header[_ENCODING], data_page_header[_DEFINITION_LEVEL_ENCODING]) == (
                _DATA_PAGE,
                _PLAIN,
                _RLE,
            )
            size, count = header[_COMPRESSED_SIZE], data_page_header[_NUM_VALUES]
        except (IndexError, KeyError, TypeError, ValueError):
            return None
        levels_start = reader.position
        if not plain or header[_UNCOMPRESSED_SIZE] != size or count <= 0:
            return None
        if not self.optional:
            before = 0
        elif levels_start + _LEVELS_LENGTH_BYTES <= len(head):
            before = _LEVELS_LENGTH_BYTES + int.from_bytes(
                head[levels_start : levels_start + _LEVELS_LENGTH_BYTES], "little"
            )
        else:
            return None
        # A null has a level and no value, so that a page with nulls is smaller than this.
        return (levels_start + before, count, levels_start + size) if before + count * self.width == size else None


def _read_fully(file: RawIOBase, target: memoryview) -> bool:
    while len(target):
        count = file.readinto(target)
        if not count:
            return False
        target = target[count:]
    return True


_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _STRUCT = 1, 2, 3, 4, 5, 6, 7, 8, 12


class ThriftCompactReader:
    """Read one struct from the front of some bytes; `position` is where it ended.

    Source: https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md. The stop, booleans, whole
    numbers and structs are read, doubles and texts are passed over; raises `ValueError` for lists, sets and maps,
    and `IndexError` where the bytes end.
    """

    def __init__(self, buffer: bytes) -> None:
        self.position = 0
        self._buffer = buffer

    def read_struct(self) -> dict[int, Any]:
        """Give the fields by their number."""
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
        found = self._buffer[self.position]
        self.position += 1
        return found

    def _read_varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._read_byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def _read_zigzag(self) -> int:
        value = self._read_varint()
        return (value >> 1) ^ -(value & 1)
