"""Promises of `airflow_zen.artifacts.hashing`."""

import hashlib
import json
import os
from pathlib import Path

import pytest
from blake3 import blake3

from airflow_zen.artifacts.hashing import FILE_HASH, FileHash, HashedFile, file_hash, hash_hex
from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.artifacts.store import ArtifactStore
from airflow_zen.errors import ArtifactCorrupt, ArtifactRefused
from airflow_zen.transports import open_transport

CONTENT = b"a table" * 100_000
MIB = 1024 * 1024


def test_the_hash_is_blake3(tmp_path):
    """A file's hash is what `b3sum` says, whether it is hashed at once or piece by piece."""
    (tmp_path / "file").write_bytes(CONTENT)
    pieces = FileHash()
    for at in range(0, len(CONTENT), 4096):
        pieces.update(memoryview(CONTENT)[at : at + 4096])
    assert file_hash(tmp_path / "file") == pieces.text == f"blake3:{blake3(CONTENT).hexdigest()}"


def test_a_known_hash_is_compared_with_its_own_kind(tmp_path):
    """A file with a SHA-256 is verified with SHA-256."""
    (tmp_path / "file").write_bytes(CONTENT)
    known = hashlib.sha256(CONTENT).hexdigest()
    assert file_hash(tmp_path / "file", known) == known
    assert file_hash(tmp_path / "file", f"blake3:{known}") == file_hash(tmp_path / "file")


@pytest.mark.parametrize("text", ["", "abc", "blake3:", "A" * 64, "md5:" + "a" * 64, "blake3:" + "../" * 21 + "a"])
def test_invalid_hashes(text):
    """Only hashes are accepted as hashes, because paths are derived from them."""
    assert not FILE_HASH.fullmatch(text)


def test_the_hex_of_both_kinds():
    """The hex characters of a hash do not include its prefix."""
    assert hash_hex("blake3:" + "a" * 64) == hash_hex("a" * 64) == "a" * 64


@pytest.fixture
def stored_before(tmp_path):
    """Write an artifact in manifest format 1 and wire version 1; return its root and its ref."""
    known = hashlib.sha256(CONTENT).hexdigest()
    identity = ["python.path@1", "pathlib.PosixPath", [["file", len(CONTENT), known]]]
    digest = hashlib.sha256(json.dumps(identity, separators=(",", ":")).encode()).hexdigest()
    document = {"airflow_zen": 1, "digest": digest, "encoding": identity[0], "type": identity[1], "size": len(CONTENT)}
    document["files"] = [{"path": "file", "size": len(CONTENT), "sha256": known}]
    directory = tmp_path / "root" / "artifacts" / digest[:2] / digest
    directory.mkdir(parents=True)
    (directory / "file").write_bytes(CONTENT)
    (directory / "manifest.json").write_text(json.dumps({**document, "inline": {}, "libraries": {}, "summary": {}}))
    uri = f"{tmp_path}/root/artifacts/{digest[:2]}/{digest}"
    wire = {"__airflow_zen__": 1, "digest": digest, "uri": uri, "encoding": identity[0], "type": identity[1]}
    return tmp_path / "root", {**wire, "size": len(CONTENT), "files": identity[2]}


@pytest.mark.parametrize("by", ["the ref", "the manifest"])
def test_artifacts_with_sha256_are_read(stored_before, tmp_path, by):
    """Artifacts and refs of the first formats stay readable and verified, and keep their digest."""
    root, wire = stored_before
    if by == "the manifest":
        del wire["files"]
    store = ArtifactStore(str(root), open_transport(str(root), {}))
    ref = ArtifactRef.from_wire(wire)
    assert (store.get(ref, tmp_path / "into") / "file").read_bytes() == CONTENT
    assert ArtifactRef.from_wire(ref.to_wire()) == ref
    assert store.manifest(ref).from_json(store.manifest(ref).to_json(), ref.digest) == store.manifest(ref)
    (root / "artifacts" / ref.digest[:2] / ref.digest / "file").write_bytes(CONTENT.replace(b"t", b"T", 1))
    with pytest.raises(ArtifactCorrupt, match="differs from its digest"):
        store.get(ref, tmp_path / "again")


def test_a_newer_format_is_refused(stored_before):
    """Newer formats are refused with the version that reads them."""
    _, wire = stored_before
    with pytest.raises(
        ArtifactRefused, match="wire version 3 cannot be read.*Install the airflow-provider-zen that wrote it"
    ):
        ArtifactRef.from_wire({**wire, "__airflow_zen__": 3})


@pytest.mark.parametrize("sizes", [[], [1], [5 * MIB, 1, 9 * MIB, MIB], [1, 2, 3]])
def test_hash_of_a_file_that_is_written(sizes, tmp_path):
    """However a file is written, its hash is that of all its bytes."""
    with HashedFile(tmp_path / "file") as file:
        for size in sizes:
            assert file.write(os.urandom(size)) == size
    assert file.hash == f"blake3:{blake3((tmp_path / 'file').read_bytes()).hexdigest()}"


def test_held_bytes_are_replaced(tmp_path):
    """The end of a file can be replaced before it is written and hashed."""
    with HashedFile(tmp_path / "file") as file:
        file.write(b"rows")
        held = file.hold()
        file.write(b"foo")
        file.write(b"ter")
        assert held == b"footer"
        file.release(b"end")
        file.write(b"!")
    assert (tmp_path / "file").read_bytes() == b"rowsend!"
    assert file.hash == file_hash(tmp_path / "file")


def test_a_failed_write_closes_the_file(tmp_path):
    """A writer that fails leaves no file open."""
    with pytest.raises(RuntimeError), HashedFile(tmp_path / "file") as file:
        file.write(b"half")
        raise RuntimeError
    assert file.closed
    assert not any(os.path.realpath(entry) == str(tmp_path / "file") for entry in Path("/proc/self/fd").iterdir())
