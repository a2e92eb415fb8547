"""Every encoding written so far stays readable."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from airflow_zen.errors import ArtifactRefused
from airflow_zen.materializers.catalog import ENCODINGS
from airflow_zen.materializers.registry import default_registry
from tests.materializers.encoding_values import HERE, WRITTEN, Written
from tests.materializers.library_sameness import are_of_one_kind
from tests.materializers.sameness import assert_same

FILES = [path for encoding in sorted(HERE.iterdir()) for path in sorted(encoding.iterdir())]


def test_every_encoding_has_files() -> None:
    """An encoding that is written has files here that every later release must read."""
    kept = {path.parent.name for path in FILES}
    assert kept == set(ENCODINGS), "Run `python -m tests.materializers.encoding_values` and add what it writes."
    assert {(path.parent.name, path.name) for path in FILES} == {
        (encoding, name) for encoding, values in WRITTEN.items() for name in values
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_encoding_is_still_read(path: Path) -> None:
    """What an older release wrote under an encoding comes back as what it was."""
    written = WRITTEN[path.parent.name][path.name]
    if not written.readable:
        pytest.skip(f"{written.needs} is not installed: make test-ml")
    registry = default_registry(allow_pickle=written.pickled)
    if written.pickled and sys.version_info[:2] != (3, 11):
        with pytest.raises(ArtifactRefused, match=r"Python 3\.11"):
            registry.load(path, path.parent.name)
        return
    wanted = type(written.seen_as()) if written.seen_as else None
    _check(written, registry.load(path, path.parent.name, wanted))


def _check(written: Written, loaded: Any) -> None:
    expected = (written.seen_as or written.make)()
    assert type(loaded) is type(expected) or are_of_one_kind(loaded, expected)
    if written.predicts:
        np.testing.assert_allclose(written.predicts(loaded), written.predicts(expected), rtol=1e-5)
    elif isinstance(loaded, Path):
        assert loaded.read_bytes() == expected.read_bytes()
    else:
        assert_same(expected, loaded)
