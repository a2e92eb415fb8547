"""Codecs of single values that JSON has no exact form for."""

from __future__ import annotations

from base64 import b64decode, b64encode
from decimal import Decimal
from fractions import Fraction
from uuid import UUID

from airflow_zen.materializers.tree.codec import Codec

ALL = (
    Codec("float", lambda value, _: {"value": repr(value)}, lambda node, _: float(node["value"])),
    Codec(
        "str",
        lambda value, _: {"utf-8": value.encode("utf-8", "surrogatepass").hex()},
        lambda node, _: bytes.fromhex(node["utf-8"]).decode("utf-8", "surrogatepass"),
    ),
    Codec("int", lambda value, _: {"hex": hex(value)}, lambda node, _: int(node["hex"], 16)),
)
"""Tags of natural JSON types, for the values that are the exception: nan, lone surrogates, huge integers."""

CODECS = {
    complex: Codec(
        "complex",
        lambda value, to: {"real": to.encode(value.real), "imag": to.encode(value.imag)},
        lambda node, of: complex(of.decode(node["real"]), of.decode(node["imag"])),
    ),
    bytes: Codec(
        "bytes",
        lambda value, _: {"base64": b64encode(value).decode()},
        lambda node, _: b64decode(node["base64"]),
    ),
    bytearray: Codec(
        "bytearray",
        lambda value, _: {"base64": b64encode(value).decode()},
        lambda node, _: bytearray(b64decode(node["base64"])),
    ),
    Decimal: Codec("decimal", lambda value, _: {"value": str(value)}, lambda node, _: Decimal(node["value"])),
    Fraction: Codec(
        "fraction",
        lambda value, to: {"of": [to.encode(value.numerator), to.encode(value.denominator)]},
        lambda node, of: Fraction(*of.decode(node["of"])),
    ),
    UUID: Codec("uuid", lambda value, _: {"value": str(value)}, lambda node, _: UUID(node["value"])),
}
