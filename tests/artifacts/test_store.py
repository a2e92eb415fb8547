"""Promises of `airflow_zen.artifacts.store`."""

import os
import re
from dataclasses import replace

import pytest

from airflow_zen.artifacts.store import ArtifactStore
from airflow_zen.errors import ArtifactCorrupt, ArtifactNotFound, ArtifactRefused, SaveRefused
from airflow_zen.transports import open_transport
from tests.advice import advice_of


class CountingTransport:
    """A real transport that counts its requests."""

    def __init__(self, inner):
        self.inner = inner
        self.requests = []

    def __getattr__(self, name):
        attribute = getattr(self.inner, name)
        if name in {"read", "write", "create", "download", "exists", "list", "list_objects", "delete"}:
            return lambda *args, **kwargs: (self.requests.append(name), attribute(*args, **kwargs))[1]
        return attribute

    def publish(self, directory, prefix, last):
        self.requests += ["write" for path in directory.rglob("*") if path.is_file()]
        self.inner.publish(directory, prefix, last)


@pytest.fixture(params=["local", "ceph", "moto", "rclone"])
def store(request, tmp_path):
    """The store on a local root and on three S3 servers."""
    if request.param == "local":
        root, options = str(tmp_path / "root"), {}
    else:
        server = request.getfixturevalue(request.param)
        root, options = f"s3://{server.bucket}/store-{os.urandom(4).hex()}", server.storage_options()
        if request.param == "rclone":
            from airflow_zen.transports.fsspec import FsspecTransport

            return ArtifactStore(root, FsspecTransport(root, options))
    return ArtifactStore(root, open_transport(root, options))


def put(store, files, inline=False, **options):
    with store.upload_directory() as directory:
        for name, content in files.items():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_bytes(content)
        described = {"encoding": "test@1", "type_name": "t", "libraries": {}, "summary": {}, **options}
        return store.put(directory, inline=inline, **described)


@pytest.mark.parametrize("inline", [False, True])
def test_returns_the_files(store, tmp_path, inline):
    """Files come back byte for byte, also nested ones, whether stored beside or in the manifest."""
    files = {"value.json": b'"caf\xc3\xa9\r\n"', "deep/er.json": b"1"}
    ref = put(store, files, inline)
    directory = store.get(ref, tmp_path)
    assert {name: (directory / name).read_bytes() for name in files} == files


def test_same_content_has_one_address(store):
    """Equal content stored twice is one artifact."""
    assert put(store, {"a": b"1"}).uri == put(store, {"a": b"1"}).uri
    assert put(store, {"a": b"1"}).digest != put(store, {"a": b"2"}).digest


@pytest.mark.parametrize("inline", [False, True])
def test_few_requests_for_a_small_artifact(store, tmp_path, inline):
    """A small artifact takes at most 3 requests to write and 1 to read."""
    counting = CountingTransport(store.transport)
    store = ArtifactStore(store.root, counting)
    ref = put(store, {"value.json": b"1"}, inline)
    written = len(counting.requests)
    assert written <= 3
    store.get(type(ref).from_wire(ref.to_wire()), tmp_path)
    assert len(counting.requests) - written <= 1


def test_half_written_artifact_is_invisible(store, tmp_path):
    """Without its manifest an artifact is missing, whatever other files exist."""
    ref = put(store, {"a": b"1", "b": b"2", "c": b"3"})
    store.transport.delete([f"{ref.uri.removeprefix(store.root + '/')}/manifest.json"])
    assert store.missing([ref]) == [ref]
    with pytest.raises(ArtifactNotFound):
        store.get(type(ref).from_wire(ref.to_wire()), tmp_path)


def test_missing_names_deleted_artifacts(store):
    """Of several artifacts those that were deleted are returned."""
    here, gone = put(store, {"a": b"1"}), put(store, {"a": b"2"})
    store.transport.delete(list(store.transport.list(gone.uri.removeprefix(store.root + "/"))))
    assert store.missing([here, gone, here]) == [gone]


def test_damaged_bytes_are_refused(store, tmp_path):
    """Bytes that differ from their hash are never returned; the error names their place in the store."""
    ref = put(store, {"a": b"good"})
    key = f"{ref.uri.removeprefix(store.root + '/')}/a"
    store.transport.delete([key])
    store.transport.write(key, b"evil")
    with pytest.raises(ArtifactCorrupt, match=f"{re.escape(ref.uri)}/a differs .* damaged"):
        store.get(ref, tmp_path)


@pytest.mark.parametrize("left", [None, b"", b"dama", b"damaged"], ids=["gone", "empty", "short", "other"])
@pytest.mark.parametrize("size", [7, 1_500_000])
def test_saving_again_repairs_damage(store, tmp_path, left, size):
    """Saving the same content again repairs files that are missing or truncated."""
    content = b"content" * (size // 7)
    ref = put(store, {"a": content, "b": b"2"})
    key = f"{ref.uri.removeprefix(store.root + '/')}/a"
    store.transport.delete([key])
    if left is not None:
        store.transport.write(key, left)
    remedy = (
        r"was pruned or deleted. Run the step that made it again"
        if left is None
        else "damaged.*Run the step that made it again"
    )
    with pytest.raises(ArtifactNotFound if left is None else ArtifactCorrupt, match=remedy):
        store.get(ref, tmp_path)
    assert put(store, {"a": content, "b": b"2"}) == ref
    (tmp_path / "again").mkdir()
    assert (store.get(ref, tmp_path / "again") / "a").read_bytes() == content


def test_ref_outside_the_root_is_refused(store, tmp_path):
    """A ref to another root, or to another path of this one, is refused."""
    ref = put(store, {"a": b"1"})
    for uri in ("/etc", f"{store.root}/../x", f"{store.root}-other/artifacts/{ref.digest[:2]}/{ref.digest}"):
        with pytest.raises(ArtifactRefused, match="outside the artifact root"):
            store.get(replace(ref, uri=uri), tmp_path)


def test_file_outside_the_artifact_is_refused(store, tmp_path):
    """A file path that leaves the artifact is refused, even when the digest matches."""
    from airflow_zen.artifacts.ref import ArtifactFile, content_digest

    files = (ArtifactFile("../../escape", 1, "00" * 32),)
    digest = content_digest("test@1", "t", files)
    ref = replace(put(store, {"a": b"1"}), digest=digest, files=files)
    with pytest.raises(ArtifactRefused, match="outside"):
        store.get(replace(ref, uri=f"{store.root}/artifacts/{digest[:2]}/{digest}"), tmp_path)


def test_manifest_has_libraries_and_summary(store):
    """The manifest holds library versions and the summary."""
    ref = put(store, {"a": b"1"}, libraries={"pandas": "3.1.1"}, summary={"rows": 7})
    manifest = store.manifest(ref)
    assert (manifest.libraries["pandas"], manifest.summary["rows"]) == ("3.1.1", 7)


def test_large_inline_falls_back_to_files(store, tmp_path):
    """Text too large for the manifest is stored beside it."""
    ref = put(store, {"value.json": b"1" * 100_000}, inline=True)
    assert not ref.inline
    assert (store.get(ref, tmp_path) / "value.json").stat().st_size == 100_000


def test_upload_directory_is_removed(tmp_path):
    """A materializer that fails leaves no files in the root."""
    store = ArtifactStore(str(tmp_path), open_transport(str(tmp_path), {}))
    with pytest.raises(RuntimeError), store.upload_directory() as directory:
        (directory / "half").write_bytes(b"x")
        raise RuntimeError
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_file_named_as_the_manifest_is_refused(store):
    """A materializer cannot write a file with the manifest's name."""
    with pytest.raises(SaveRefused, match=r"test@1 wrote a manifest\.json"):
        put(store, {"manifest.json": b"{}"})
    put(store, {"deep/manifest.json": b"{}"})


@pytest.mark.parametrize("change", [{"encoding": "python.cloudpickle@1"}, {"type": "os.system"}])
@pytest.mark.parametrize("inline", [False, True])
def test_a_ref_does_not_choose_its_reader(store, tmp_path, change, inline):
    """A ref without files whose encoding or type differs from the manifest's is refused, before anything is read."""
    ref = replace(put(store, dict.fromkeys("abc", b"1"), inline), **change)
    assert ref.files == ()
    with pytest.raises(ArtifactRefused, match="Use the ref that its step returned"):
        store.get(ref, tmp_path / "into")


@pytest.mark.parametrize("store", ["local", "moto"], indirect=True)
def test_content_that_something_deletes(store, monkeypatch):
    """Content that is deleted each time it is stored, as after a lifecycle rule, is an error; it is stored once that ends."""
    transport, publish = store.transport, store.transport.publish
    advice = "Run the task again" if store.is_local else "Check what deletes objects there; then run the task again"

    def publish_in_vain(directory, prefix, last):
        publish(directory, prefix, last)
        transport.delete([*transport.list(prefix)])

    monkeypatch.setattr(transport, "publish", publish_in_vain)
    with ArtifactStore(store.root, transport).prune_notices.announce("another"):
        advice_of(lambda: put(store, {"a": b"1"}), rf"{advice}\.$")
        monkeypatch.undo()
        assert store.missing([put(store, {"a": b"1"})]) == []


def test_file_of_a_reserved_name(tmp_path):
    """A file that the store would overwrite is refused; it is stored under another name."""
    store = ArtifactStore(str(tmp_path / "root"), open_transport(str(tmp_path / "root"), {}))
    advice_of(lambda: put(store, {"manifest.json": b"{}"}), r"wrote a manifest\.json, .*Give that file another name\.")
    assert (store.get(put(store, {"own.json": b"{}"}), tmp_path / "into") / "own.json").read_bytes() == b"{}"
