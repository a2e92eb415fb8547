"""The string dtypes of pandas: two storages, two missing values, and releases that lack some of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd


def string_note(dtype: pd.StringDtype) -> dict[str, str]:
    """Name a string dtype by what pandas would be asked for."""
    return {"string": dtype.storage, "na": "NA" if dtype.na_value is pd.NA else "nan"}


def string_dtype(note: dict[str, str]) -> Any:
    """Give a string dtype back; `object` under a pandas older than 2.3, which has no NaN strings."""
    if note["na"] == "NA":
        return pd.StringDtype(note["string"])
    try:
        return pd.StringDtype(note["string"], na_value=np.nan)
    except TypeError:
        return np.dtype(object)


DEFAULT_STRING = string_dtype({"string": "pyarrow", "na": "nan"})
"""What a plain Arrow string column becomes: the `str` dtype that pandas 3 gives to text."""
