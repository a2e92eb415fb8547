"""String dtypes, time zones and frequencies of pandas as metadata, and back."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timezone, tzinfo
from typing import Any, cast
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from airflow_zen.errors import SaveRefused


def string_metadata(dtype: pd.StringDtype) -> dict[str, str]:
    """Return the storage and the missing value of a string dtype."""
    return {"string": dtype.storage, "na": "NA" if dtype.na_value is pd.NA else "nan"}


def string_dtype(metadata: Mapping[str, Any]) -> Any:
    """Return the string dtype that `string_metadata` describes."""
    return pd.StringDtype(metadata["string"], na_value=pd.NA if metadata["na"] == "NA" else np.nan)


DEFAULT_STRING = string_dtype({"string": "pyarrow", "na": "nan"})
"""The dtype of a string column without metadata: `str`, which pandas 3 gives to text."""


def timezone_metadata(tz: tzinfo | None) -> Any:
    """Return a time zone of the standard library as it is, one of pytz by its name; raise `SaveRefused` for any other."""
    if tz is None or type(tz) in (timezone, ZoneInfo):
        return tz
    name = getattr(tz, "zone", None)
    if type(tz).__module__.partition(".")[0] == "pytz" and name:
        return {"pytz": name}
    raise SaveRefused(f"The time zone {tz!r} is of {type(tz).__module__}. Convert it to a zoneinfo.ZoneInfo.")


def timezone_from_metadata(metadata: Any) -> tzinfo | None:
    """Return the time zone that `timezone_metadata` describes; a `ZoneInfo` in place of a pytz zone where pytz is not installed."""
    if not isinstance(metadata, dict):
        return cast("tzinfo | None", metadata)
    try:
        import pytz
    except ModuleNotFoundError:
        return ZoneInfo(metadata["pytz"])
    return cast("tzinfo", pytz.timezone(metadata["pytz"]))


def freq_name(freq: Any) -> str | None:
    """Return the name of the frequency of an index; raise `SaveRefused` for one that its name does not describe completely."""
    if freq is None:
        return None
    if not _is_restorable_by_name(freq):
        raise SaveRefused(
            f"The frequency {freq!r} is more than its name {freq.freqstr!r} says. Set index.freq to None."
        )
    return str(freq.freqstr)


def _is_restorable_by_name(freq: Any) -> bool:
    try:
        return bool(pd.tseries.frequencies.to_offset(freq.freqstr) == freq)
    except ValueError:
        return False  # such as pandas.DateOffset(months=1, days=2)
