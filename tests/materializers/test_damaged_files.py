"""Files that are damaged or forged, with a digest to match, are refused by an error that names them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from airflow_zen.errors import ZenError
from tests.materializers.round_trip import REGISTRY, make_directory
from tests.materializers.test_round_trip import TABLE

# The parsers of XGBoost and LightGBM, in C++, end the process for some forged models.
_ENCODINGS = (
    "python.json@1", "python.text@1", "python.bytes@1", "numpy.npy@1", "pandas.parquet@1", "pyarrow.parquet@1",
    "pyarrow.ipc@1", "polars.parquet@1", "scipy.npy@1", "pillow.png@1", "plotly.json@1", "xarray.npy@1", "geopandas.wkb@1",
    "sklearn.mlflow@3",
)  # fmt: skip
_ROWS_PER_ENCODING = 2


def _stored(directory: Path) -> dict[str, list[Path]]:
    """Save values of the round-trip table, the first of each encoding; return their directories by encoding."""
    found: dict[str, list[Path]] = {encoding: [] for encoding in _ENCODINGS}
    for number, make in enumerate(TABLE.values()):
        source, target = (make_directory(directory, f"{kind}-{number}") for kind in ("source", "saved"))
        encoding = REGISTRY.save(make(source), target).encoding
        if encoding in found and len(found[encoding]) < _ROWS_PER_ENCODING:
            found[encoding].append(target)
    return found


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    return _stored(tmp_path_factory.mktemp("damaged"))


def _damages(content: bytes) -> Iterator[bytes]:
    chance = random.Random(len(content))
    yield from (b"", content[: len(content) // 2], content[:-1], chance.randbytes(max(10, len(content))))
    yield from (b"[" * 100_000, b"7", b"null", b'{"a": [1e999, "x", {"$": "enum"}]}')
    for _ in range(4):
        changed = bytearray(content)
        for _ in range(chance.randint(1, 4) if content else 0):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        yield bytes(changed)


def _is_refused(directory: Path, encoding: str) -> bool:
    with suppress(ZenError):
        REGISTRY.load(directory, encoding)
        return False
    return True


@pytest.mark.parametrize("encoding", _ENCODINGS)
def test_damaged_files(stored: dict[str, list[Path]], encoding: str) -> None:
    """A damaged file is read as another value or refused by our own error: never by a library's, never by a crash."""
    refused = 0
    for directory in stored[encoding]:
        for file in sorted(path for path in directory.rglob("*") if path.is_file()):
            whole = file.read_bytes()
            for damaged in _damages(whole):
                file.write_bytes(damaged)
                refused += _is_refused(directory, encoding)
            file.write_bytes(whole)
        assert not _is_refused(directory, encoding)
    assert refused or encoding in {"python.text@1", "python.bytes@1"}
