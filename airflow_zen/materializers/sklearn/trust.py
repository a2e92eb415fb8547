"""Which types a model may be made of."""

from __future__ import annotations

import re
from collections.abc import Iterable

_TRUSTED = re.compile(
    r"""
    functools\.partial$
    | sklearn\.(?!datasets\b|externals\b|utils\._testing\b|.*\btests?\b)
    | numpy\.(ma|random|dtypes|polynomial|_core\.numeric)\.
    | numpy\.(?!memmap|save|load|from|gen|DataSource|testing|f2py|lib|ctypeslib|distutils)\w+$
    | scipy\._lib\.array_api_compat\.
    | scipy\.(sparse|special|stats|interpolate|spatial|linalg|optimize|ndimage|signal|cluster)\.(?!.*\btests?\b)
    """,
    re.VERBOSE,
)


def untrusted(names: Iterable[str]) -> list[str]:
    """Give the names that are not scikit-learn's, NumPy's or SciPy's own.

    A `functools.partial` is as trusted as the function in it, which has a name of its own here.

    Parts of these packages that read files, write them or load code are not needed by any estimator, and
    are left out.
    """
    return sorted(name for name in names if not _TRUSTED.match(name))
