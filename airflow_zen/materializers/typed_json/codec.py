"""What a codec is: one tag of the typed JSON, written and read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from airflow_zen.materializers.typed_json.encoding import Decoder, Encoder

TAG = "$"

Json = Any
"""What `json` reads and writes: None, bool, int, float, str, list, and dict with str keys."""


class Codec(msgspec.Struct, frozen=True):
    """Write one kind of value as a tagged JSON object, and read it back.

    `encode` gives the fields beside the tag; children go through the encoder it is handed, and come
    back through the decoder.
    """

    tag: str
    encode: Callable[[Any, Encoder], Mapping[str, Json]]
    decode: Callable[[Mapping[str, Json], Decoder], Any]
