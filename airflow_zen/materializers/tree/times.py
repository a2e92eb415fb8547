"""Codecs of dates, times, and the time zones they are in."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, time, timedelta, timezone
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from airflow_zen.materializers.tree.codec import Codec, Json

if TYPE_CHECKING:
    from airflow_zen.materializers.tree.decoder import Decoder
    from airflow_zen.materializers.tree.encoder import Encoder


def encode_wall_clock(value: datetime | time, encoder: Encoder) -> Mapping[str, Json]:
    """Write a datetime or time as wall clock, zone and fold."""
    fields: dict[str, Json] = {"iso": value.replace(tzinfo=None, fold=0).isoformat()}
    if value.tzinfo is not None:
        fields["tz"] = encoder.encode(value.tzinfo)
    if value.fold:
        fields["fold"] = value.fold
    return fields


def _decode_datetime_node(node: Mapping[str, Json], decoder: Decoder) -> datetime:
    tz = decoder.decode(node.get("tz"))
    return datetime.fromisoformat(node["iso"]).replace(tzinfo=tz, fold=node.get("fold", 0))


def _decode_time(node: Mapping[str, Json], decoder: Decoder) -> time:
    tz = decoder.decode(node.get("tz"))
    return time.fromisoformat(node["iso"]).replace(tzinfo=tz, fold=node.get("fold", 0))


def _encode_timezone(value: timezone, encoder: Encoder) -> Mapping[str, Json]:
    offset, *name = value.__getinitargs__()  # type: ignore[attr-defined]
    fields: dict[str, Json] = {"offset": _timedelta_fields(offset)}
    return {**fields, "name": encoder.encode(name[0])} if name else fields


def _decode_timezone(node: Mapping[str, Json], decoder: Decoder) -> timezone:
    offset = timedelta(*node["offset"])
    return timezone(offset, decoder.decode(node["name"])) if "name" in node else timezone(offset)


def _encode_zoneinfo(value: ZoneInfo, encoder: Encoder) -> Mapping[str, Json]:
    if value.key is None:
        raise encoder.unsupported_error(
            value, "it was read from a file and has no key to find it by. Use ZoneInfo(key)."
        )
    return {"key": value.key}


def _timedelta_fields(value: timedelta) -> list[int]:
    return [value.days, value.seconds, value.microseconds]


TIME_CODECS = {
    datetime: Codec("datetime", encode_wall_clock, _decode_datetime_node),
    date: Codec(
        "date",
        lambda value, _: {"iso": value.isoformat()},
        lambda node, _: date.fromisoformat(node["iso"]),
    ),
    time: Codec("time", encode_wall_clock, _decode_time),
    timedelta: Codec(
        "timedelta",
        lambda value, _: {"days_seconds_microseconds": _timedelta_fields(value)},
        lambda node, _: timedelta(*node["days_seconds_microseconds"]),
    ),
    timezone: Codec("timezone", _encode_timezone, _decode_timezone),
    ZoneInfo: Codec("zoneinfo", _encode_zoneinfo, lambda node, _: ZoneInfo(node["key"])),
}
