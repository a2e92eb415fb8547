"""Promises of `airflow_zen.artifacts.ref`."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime

import pytest

from airflow_zen.artifacts.folder import Manifest
from airflow_zen.artifacts.ref import (
    ArtifactFile,
    ArtifactRef,
    ArtifactVersion,
    content_digest,
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

FILES = (ArtifactFile("table.parquet", 4096, "ab" * 32),)
DIGEST = content_digest("pandas.parquet@1", "pandas.DataFrame", FILES)
REF = ArtifactRef(
    digest=DIGEST,
    uri=f"s3://bucket/root/artifacts/{DIGEST[:2]}/{DIGEST}",
    encoding="pandas.parquet@1",
    type="pandas.DataFrame",
    size=4096,
    name="flight_delay/train",
    shape="10 rows × 2 columns",
    files=FILES,
)


NOON = datetime(2026, 11, 24, 12, 0, 0, 123000, tzinfo=UTC)
FEATURES = ArtifactRef("ab" * 32, "/store/artifacts/ab/" + "ab" * 32, "python.json@1", "builtins.int", 1, "features")


def test_content_digest_is_pinned():
    """The digest of given content never changes."""
    assert DIGEST == "9b7b82a7e3775c351dbc84dcb2fec182026e61c1787415110e3427c3eac380ec"


def test_digest_knows_encoding_type_and_files_and_not_their_order():
    """Encoding, type and each file change the digest; the order of files does not."""
    other = ArtifactFile("a.json", 1, "cd" * 32)
    assert content_digest("x@1", "t", (*FILES, other)) == content_digest("x@1", "t", (other, *FILES))
    variants = [("x@2", "t", FILES), ("x@1", "u", FILES), ("x@1", "t", (other,)), ("x@1", "t", FILES)]
    assert len({content_digest(*variant) for variant in variants}) == 4


def test_wire_round_trip():
    """A ref is equal after a round trip through its wire form."""
    assert ArtifactRef.from_wire(json.loads(json.dumps(REF.to_wire()))) == REF


def test_wire_is_small_plain_json():
    """The wire form is a marked JSON dict of less than 1 KB."""
    wire = REF.to_wire()
    assert ArtifactRef.is_wire(wire)
    assert wire["__airflow_zen__"] == 2
    assert len(json.dumps(wire)) < 1024


def test_many_files_stay_in_the_manifest():
    """An artifact of many files has a ref no larger than one of few."""
    files = tuple(ArtifactFile(f"{n}.parquet", 1, "ab" * 32) for n in range(50))
    assert Manifest("e", "t", files[:2]).ref("u").files == files[:2]
    assert "files" not in Manifest("e", "t", files).ref("u").to_wire()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"__airflow_zen__": 3}, "wire version 3"),
        ({"digest": "abc"}, "no sha256 digest"),
        ({"digest": "../" * 20 + "etc1"}, "no sha256 digest"),
        ({"size": "many"}, "Malformed"),
        ({"files": [["other.parquet", 4096, "ab" * 32]]}, "do not match"),
        ({"files": [["table.parquet"]]}, "Malformed"),
        ({"type": "os.system"}, "do not match"),
    ],
)
def test_malformed_refs_are_refused(change, reason):
    """A changed ref, or one of a newer format, is refused with a reason."""
    with pytest.raises(ArtifactRefused, match=reason):
        ArtifactRef.from_wire({**REF.to_wire(), **change})


@pytest.mark.parametrize(
    ("size", "known"),
    [(4096, "/etc/passwd"), (4096, "../" * 21 + "x"), (4096, "AB" * 32), (4096, "ab" * 32 + "\n"), (-1, "ab" * 32)],
)
def test_impossible_files_are_refused(size, known):
    """A ref or manifest whose file has a path for a hash, or a size below zero, is refused though its digest fits."""
    identity = ["pandas.parquet@1", "pandas.DataFrame", [["table.parquet", size, known]]]
    digest = hashlib.sha256(json.dumps(identity, separators=(",", ":")).encode()).hexdigest()
    wire = {**REF.to_wire(), "digest": digest, "files": [["table.parquet", size, known]]}
    with pytest.raises(ArtifactRefused, match="which no file can have"):
        ArtifactRef.from_wire(wire)
    manifest = Manifest("pandas.parquet@1", "pandas.DataFrame", FILES).to_json()
    document = {**json.loads(manifest), "files": [{"path": "table.parquet", "size": size, "hash": known}]}
    with pytest.raises(ArtifactRefused, match="which no file can have"):
        Manifest.from_json(json.dumps(document).encode(), digest)


def test_a_missing_field_is_named():
    """A ref without a digest is an error that names the field."""
    wire = REF.to_wire()
    del wire["digest"]
    with pytest.raises(ArtifactRefused, match="digest"):
        ArtifactRef.from_wire(wire)


def test_reused_ref_keeps_its_identity():
    """A reused ref is the same artifact, and names the step run that made it."""
    reused = REF.reused_from("d/r/t/-1/1")
    assert (reused.digest, reused.cached, reused.origin) == (REF.digest, True, "d/r/t/-1/1")


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
        FEATURES,
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
    """A text that selects a version in another way cannot be a tag, a word can."""
    with pytest.raises(ArtifactNameError, match="cannot be a tag"):
        validate_tag(tag)
    assert validate_tag("golden") == "golden"
