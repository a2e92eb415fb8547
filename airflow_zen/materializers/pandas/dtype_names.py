"""The string dtypes of pandas: two storages, two missing values."""

from __future__ import annotations

from datetime import timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from airflow_zen.errors import SaveRefused


def string_metadata(dtype: pd.StringDtype) -> dict[str, str]:
    """Name a string dtype by what pandas would be asked for."""
    return {"string": dtype.storage, "na": "NA" if dtype.na_value is pd.NA else "nan"}


def string_dtype(metadata: dict[str, Any]) -> Any:
    """Give a string dtype back."""
    return pd.StringDtype(metadata["string"], na_value=pd.NA if metadata["na"] == "NA" else np.nan)


DEFAULT_STRING = string_dtype({"string": "pyarrow", "na": "nan"})
"""What a plain Arrow string column becomes: the `str` dtype that pandas 3 gives to text."""


def timezone_metadata(tz: tzinfo | None) -> Any:
    """Give a time zone as the standard library's, or the name of a pytz one."""
    if tz is None or type(tz) in (timezone, ZoneInfo):
        return tz
    name = getattr(tz, "zone", None)
    if type(tz).__module__.partition(".")[0] == "pytz" and name:
        return {"pytz": name}
    raise SaveRefused(f"The time zone {tz!r} is of {type(tz).__module__}. Convert it to a zoneinfo.ZoneInfo.")


def timezone_from_metadata(metadata: Any) -> tzinfo | None:
    """Give back a time zone; a pytz one as `ZoneInfo` where pytz is not installed."""
    if not isinstance(metadata, dict):
        zone: tzinfo | None = metadata
        return zone
    try:
        import pytz
    except ModuleNotFoundError:
        return ZoneInfo(metadata["pytz"])
    found: tzinfo = pytz.timezone(metadata["pytz"])
    return found


def freq_name(freq: Any) -> str | None:
    """Name the frequency of an index; raises `SaveRefused` for one that its name does not say completely."""
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
