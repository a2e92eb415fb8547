"""Thrift's compact protocol, as far as the page headers of parquet have it."""

from __future__ import annotations

from typing import Any

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
