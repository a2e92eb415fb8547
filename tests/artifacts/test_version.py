"""Promises of `airflow_zen.artifacts.version`."""

from datetime import UTC, datetime

import pytest

from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.artifacts.version import (
    ArtifactVersion,
    object_name,
    parse_instant,
    parse_version_key,
    to_milliseconds,
    validate_artifact_name,
    validate_tag,
    version_label,
    version_path,
)
from airflow_zen.errors import ArtifactCorrupt, ArtifactNameError, ArtifactRefused

NOON = datetime(2026, 11, 24, 12, 0, 0, 123000, tzinfo=UTC)
REF = ArtifactRef("ab" * 32, "/store/artifacts/ab/" + "ab" * 32, "python.json@1", "builtins.int", 1, "features")


def test_the_key_is_pinned():
    """The name and the place of a version's object are pinned: the format is public."""
    name = object_name(to_milliseconds(NOON), "ab" * 32)
    assert name == "8204478399876-abababababababab.json"
    assert version_path(name) == f"8204/8204478/{name}"
    assert parse_version_key(f"names/x/versions/{version_path(name)}") == (to_milliseconds(NOON), "ab" * 8)
    assert version_label(to_milliseconds(NOON)) == "2026-11-24T12:00:00.123Z"


def test_later_keys_come_first():
    """Keys of later versions sort before those of earlier ones, also in their folders."""
    times = [0, 1, 999, 10**12, to_milliseconds(NOON), 9_999_999_999_999]
    keys = [object_name(time, "ff" * 32) for time in times]
    assert sorted(keys) == keys[::-1]
    assert sorted(map(version_path, keys)) == list(map(version_path, keys[::-1]))


def test_another_object_is_an_error():
    """A key that is not a version is an error that names it."""
    with pytest.raises(ArtifactCorrupt, match="readme"):
        parse_version_key("names/x/versions/readme.txt")


def test_document_round_trip():
    """A version is equal after a round trip; a newer format and a truncated document are refused."""
    version = ArtifactVersion(
        "features",
        version_label(to_milliseconds(NOON)),
        NOON.timestamp(),
        REF,
        "d/r/t/-1/1",
        "d/r",
        ("golden",),
        {"rows": 3},
    )
    assert ArtifactVersion.from_json(version.to_json(), "key") == version
    with pytest.raises(ArtifactRefused, match="newer airflow-provider-zen"):
        ArtifactVersion.from_json(version.to_json().replace(b'"airflow_zen": 1', b'"airflow_zen": 2'), "key")
    with pytest.raises(ArtifactCorrupt, match="key is not readable"):
        ArtifactVersion.from_json(b'{"airflow_zen": 1}', "key")


def test_dates_and_times():
    """An ISO time is that moment, a date its end, and other text is None; without a zone it is UTC."""
    assert parse_instant("2026-11-24T12:00:00.123Z") == to_milliseconds(NOON)
    assert parse_instant("2026-11-24 13:00:00.123+01:00") == to_milliseconds(NOON)
    assert parse_instant("2026-11-24") == to_milliseconds(datetime(2026, 11, 24, 23, 59, 59, 999000))
    assert parse_instant("golden") is parse_instant("20261124") is parse_instant("2026-13-01") is None


@pytest.mark.parametrize(
    "name", ["", "/a", "a/", "a//b", " a", "a\n", "..", "a/./b", "a[1]", "x" * 251, "ä" * 50, None, 3]
)
def test_invalid_names(name):
    """An ambiguous name, or one that cannot be quoted whole, is refused."""
    with pytest.raises(ArtifactNameError):
        validate_artifact_name(name)


def test_valid_names():
    """Words with slashes, dots, dashes and spaces inside are names."""
    for name in ("features", "flights/train.set-2", "été 2026/a b", "x" * 250):
        assert validate_artifact_name(name) == name


@pytest.mark.parametrize("tag", ["", "latest", "abcdef", "2026-11-24", "2026-11-24T10:00", "..", " x", "x" * 251])
def test_invalid_tags(tag):
    """A text that selects a version in another way cannot be a tag."""
    with pytest.raises(ArtifactNameError):
        validate_tag(tag)
