"""Codecs of pendulum's dates and zones, which Airflow hands to every task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pendulum
from pendulum.tz.timezone import FixedTimezone, Timezone

from airflow_zen.materializers.typed_json.builtins import encode_wall_clock
from airflow_zen.materializers.typed_json.codec import Codec, Json

if TYPE_CHECKING:
    from airflow_zen.materializers.typed_json.encoding import Decoder, Encoder


def library_codec(value: Any) -> Codec | None:
    """Find who writes a pendulum value; None for those that are not stored, such as an interval."""
    return _CODECS.get(type(value))


def _decode_pendulum_datetime(node: Mapping[str, Json], decoder: Decoder) -> pendulum.DateTime:
    return pendulum.DateTime.fromisoformat(node["iso"]).replace(
        tzinfo=decoder.decode(node.get("tz")), fold=node.get("fold", 0)
    )


def _encode_fixed_timezone(value: FixedTimezone, _: Encoder) -> Mapping[str, Json]:
    return {"seconds": value.offset, "name": value.name}


_CODECS = {
    pendulum.DateTime: Codec("pendulum.DateTime", encode_wall_clock, _decode_pendulum_datetime),
    pendulum.Date: Codec(
        "pendulum.Date",
        lambda value, _: {"iso": value.isoformat()},
        lambda node, _: pendulum.Date.fromisoformat(node["iso"]),
    ),
    Timezone: Codec(
        "pendulum.Timezone",
        lambda value, _: {"key": value.key},
        lambda node, _: Timezone(node["key"]),
    ),
    FixedTimezone: Codec(
        "pendulum.FixedTimezone",
        _encode_fixed_timezone,
        lambda node, _: FixedTimezone(node["seconds"], node["name"]),
    ),
}
CODECS = tuple(_CODECS.values())
