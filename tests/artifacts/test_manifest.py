"""Promises of `airflow_zen.artifacts.store`."""

import json

import pytest

from airflow_zen.artifacts.folder import Manifest
from airflow_zen.artifacts.ref import ArtifactFile
from airflow_zen.errors import ArtifactCorrupt, ArtifactRefused

MANIFEST = Manifest(
    encoding="python.json@1",
    type="builtins.dict",
    files=(ArtifactFile("value.json", 7, "01" * 32),),
    inline={"value.json": '{"a":1}'},
    libraries={"pandas": "3.1.1"},
    summary={"shape": "1 key"},
)


def test_round_trip():
    """A manifest is equal after a JSON round trip."""
    assert Manifest.from_json(MANIFEST.to_json(), MANIFEST.digest) == MANIFEST


def test_libraries_and_summary_are_no_part_of_the_identity():
    """The same content written by another library version is the same artifact."""
    other = Manifest(MANIFEST.encoding, MANIFEST.type, MANIFEST.files, libraries={"pandas": "9"}, summary={"x": 1})
    assert other.digest == MANIFEST.digest


def test_manifest_of_another_artifact_is_corrupt():
    """A manifest at the wrong digest is refused."""
    with pytest.raises(ArtifactCorrupt, match="another artifact"):
        Manifest.from_json(MANIFEST.to_json(), "0" * 64)


def test_newer_format_says_what_to_install():
    """A manifest of a newer format is an error that names the remedy."""
    document = {**json.loads(MANIFEST.to_json()), "airflow_zen": 3}
    with pytest.raises(ArtifactRefused, match="newer airflow-provider-zen"):
        Manifest.from_json(json.dumps(document).encode(), MANIFEST.digest)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"airflow_zen": 1}', b"\xff"])
def test_damaged_manifests_are_corrupt(text):
    """A manifest that cannot be read is a corrupt artifact, not a crash."""
    with pytest.raises(ArtifactCorrupt):
        Manifest.from_json(text, MANIFEST.digest)
