"""Promises of `airflow_zen.artifacts.store`."""

import json

import pytest

from airflow_zen.artifacts.folder import Manifest
from airflow_zen.artifacts.ref import ArtifactFile, ArtifactRef
from airflow_zen.artifacts.store import ArtifactStore
from airflow_zen.errors import ArtifactCorrupt, ArtifactRefused, ZenError
from airflow_zen.transports import open_transport

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


HOSTILE = {
    "deep": b"[" * 100_000,
    "deep object": b'{"airflow_zen": 2, "files": ' + b"[" * 100_000,
    "a list of files": b'{"airflow_zen": 2, "files": ["a", 1]}',
    "no object": b'"text"',
    "a huge size": b'{"airflow_zen": 2, "encoding": "a@1", "type": "t", "files": [{"path": "a", "size": 1e400, "hash": ""}]}',
    "a text of 10 MB": json.dumps({"airflow_zen": "x" * 10_000_000}).encode(),
    "a path of 10 MB": json.dumps(
        {"airflow_zen": 2, "files": [{"path": "x" * 10_000_000, "size": -1, "hash": ""}]}
    ).encode(),
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_manifests_are_refused(text):
    """A manifest that was made to do harm is an error of ours, with a message of bounded length."""
    with pytest.raises(ZenError) as raised:
        Manifest.from_json(text, MANIFEST.digest)
    assert len(str(raised.value)) < 5000


@pytest.mark.parametrize(
    "change",
    [
        {"__airflow_zen__": "x" * 10_000_000},
        {"uri": "x" * 10_000_000},
        {"digest": "x" * 10_000_000},
        {"name": ["x" * 10_000_000]},
        {"size": float("inf")},
        {"size": "1"},
        {"files": "x" * 10_000_000},
        {"files": [["a", float("inf"), "b"]]},
        {"files": [["x" * 10_000_000, 1, "b"]]},
        {"files": {"a": 1}},
        {"code": 1},
    ],
    ids=lambda change: f"{next(iter(change))}-{type(next(iter(change.values()))).__name__}",
)
def test_hostile_refs_are_refused(change, tmp_path):
    """A ref that was made to do harm is an error of ours, with a message of bounded length."""
    store = ArtifactStore(str(tmp_path / "root"), open_transport(str(tmp_path / "root"), {}))
    wire = MANIFEST.ref(f"{store.root}/artifacts/{MANIFEST.digest[:2]}/{MANIFEST.digest}").to_wire()
    with pytest.raises(ZenError) as raised:
        store.get(ArtifactRef.from_wire({**wire, **change}), tmp_path)
    assert len(str(raised.value)) < 5000
