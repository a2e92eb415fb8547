"""Codecs of pendulum's dates and zones, which Airflow passes to every task."""

from __future__ import annotations

from typing import Any

import pendulum
from pendulum.tz.timezone import FixedTimezone, Timezone

from airflow_zen.materializers.typed_json.codec import Codec, field_codec, wall_clock_codec

_CODECS = {
    pendulum.DateTime: wall_clock_codec("pendulum.DateTime", pendulum.DateTime),
    pendulum.Date: field_codec("pendulum.Date", "iso", pendulum.Date.isoformat, pendulum.Date.fromisoformat),
    Timezone: field_codec("pendulum.Timezone", "key", lambda zone: zone.key, Timezone),
    FixedTimezone: Codec(
        "pendulum.FixedTimezone",
        lambda value, _: {"seconds": value.offset, "name": value.name},
        lambda node, _: FixedTimezone(node["seconds"], node["name"]),
    ),
}
CODECS = tuple(_CODECS.values())


def library_codec(value: Any) -> Codec | None:
    """Return the codec of a pendulum value; None for a value that is not stored, such as an interval."""
    return _CODECS.get(type(value))
