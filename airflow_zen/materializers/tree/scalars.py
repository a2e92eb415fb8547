"""Codecs of single values that JSON has no exact form for."""

from __future__ import annotations

from base64 import b64decode, b64encode
from decimal import Decimal
from fractions import Fraction
from uuid import UUID

from airflow_zen.materializers.tree.codec import Codec

JSON_EXCEPTION_CODECS = (
    Codec("float", lambda value, _: {"value": repr(value)}, lambda node, _: float(node["value"])),
    Codec(
        "str",
        lambda value, _: {"utf-8": value.encode("utf-8", "surrogatepass").hex()},
        lambda node, _: bytes.fromhex(node["utf-8"]).decode("utf-8", "surrogatepass"),
    ),
    Codec("int", lambda value, _: {"hex": hex(value)}, lambda node, _: int(node["hex"], 16)),
)
"""Tags of natural JSON types, for the values that are the exception: nan, lone surrogates, huge integers."""

SCALAR_CODECS = {
    complex: Codec(
        "complex",
        lambda value, encoder: {"real": encoder.encode(value.real), "imag": encoder.encode(value.imag)},
        lambda node, decoder: complex(decoder.decode(node["real"]), decoder.decode(node["imag"])),
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
        lambda value, encoder: {"of": [encoder.encode(value.numerator), encoder.encode(value.denominator)]},
        lambda node, decoder: Fraction(*decoder.decode(node["of"])),
    ),
    UUID: Codec("uuid", lambda value, _: {"value": str(value)}, lambda node, _: UUID(node["value"])),
}
