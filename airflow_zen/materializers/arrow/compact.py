"""Thrift's compact protocol, as far as the page headers of parquet have it."""

from __future__ import annotations

from typing import Any

_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _STRUCT = 1, 2, 3, 4, 5, 6, 7, 8, 12


class CompactReader:
    """Read one struct from the front of some bytes; `at` is where it ended.

    Source: https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md. The stop, booleans, whole
    numbers and structs are read, doubles and texts are passed over; raises `ValueError` for lists, sets and maps,
    and `IndexError` where the bytes end.
    """

    def __init__(self, data: bytes) -> None:
        self.at = 0
        self._data = data

    def struct(self) -> dict[int, Any]:
        """Give the fields by their number."""
        fields: dict[int, Any] = {}
        number = 0
        while begin := self._byte():
            delta, kind = begin >> 4, begin & 0x0F
            number = number + delta if delta else self._signed()
            fields[number] = self._value(kind)
        return fields

    def _value(self, kind: int) -> Any:
        if kind in (_TRUE, _FALSE):
            return kind == _TRUE
        if kind in (_I16, _I32, _I64):
            return self._signed()
        if kind == _STRUCT:
            return self.struct()
        if kind not in (_BYTE, _DOUBLE, _BINARY):
            raise ValueError(f"Values of kind {kind} are not read.")
        size = self._varint() if kind == _BINARY else {_BYTE: 1, _DOUBLE: 8}[kind]
        self.at += size
        return None

    def _byte(self) -> int:
        found = self._data[self.at]
        self.at += 1
        return found

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def _signed(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
