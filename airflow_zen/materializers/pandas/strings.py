"""The string dtypes of pandas: two storages, two missing values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd


def string_metadata(dtype: pd.StringDtype) -> dict[str, str]:
    """Name a string dtype by what pandas would be asked for."""
    return {"string": dtype.storage, "na": "NA" if dtype.na_value is pd.NA else "nan"}


def string_dtype(metadata: dict[str, Any]) -> Any:
    """Give a string dtype back."""
    return pd.StringDtype(metadata["string"], na_value=pd.NA if metadata["na"] == "NA" else np.nan)


DEFAULT_STRING = string_dtype({"string": "pyarrow", "na": "nan"})
"""What a plain Arrow string column becomes: the `str` dtype that pandas 3 gives to text."""
