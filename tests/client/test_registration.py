"""Promises of `airflow_zen.register_artifact`: data that is already in the store."""

import json
import os
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import airflow_zen
from airflow_zen import register_artifact, save_artifact
from airflow_zen.config.settings import open_stack
from airflow_zen.errors import ArtifactCorrupt, ArtifactNameError, ArtifactNotFound, ArtifactRefused, SettingsError

FRAME = pd.DataFrame({"carrier": ["AA", "B6", None], "delay": [3.0, 11.5, -2.0]})


@pytest.fixture(params=["local", "obstore", "fsspec"])
def root(request, tmp_path, monkeypatch):
    """An artifact root on this disk, and on Ceph through each transport."""
    if request.param == "local":
        root = str(tmp_path / "root")
    else:
        server = request.getfixturevalue("ceph")
        root = f"s3://{server.bucket}/registered-{os.getpid()}-{request.node.name.replace('[', '-').rstrip(']')}"
        extra = {"endpoint_url": server.endpoint, "region_name": "us-east-1"}
        # Of checksums only botocore is told, so that fsspec is used.
        options = {"config_kwargs": {"max_pool_connections": 4}} if request.param == "fsspec" else {}
        connection = {"conn_type": "aws", "login": server.access_key, "password": server.secret_key}
        monkeypatch.setenv("AIRFLOW_CONN_STORE", json.dumps({**connection, "extra": {**extra, **options}}))
        monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_CONN_ID", "store")
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", root)
    return root


def write_object(key, data):
    open_stack().store.transport.write(key, data)


def parquet_bytes(frame, path):
    frame.to_parquet(path, index=False)
    return path.read_bytes()


def test_a_parquet_file_is_a_table(root, tmp_path):
    """A registered parquet file loads as any library's table, whole or in part, and its manifest has its columns."""
    write_object("raw/flights.parquet", parquet_bytes(FRAME, tmp_path / "x"))
    found = register_artifact(f"{root}/raw/flights.parquet", "raw/flights", tags=["golden"], metadata={"by": "spark"})
    assert found == airflow_zen.artifact("raw/flights", "golden")
    pd.testing.assert_frame_equal(found.load(pd.DataFrame), FRAME)
    assert found.load(pl.DataFrame).shape == (3, 2)
    assert type(found.load()) is pa.Table
    assert found.load(pl.LazyFrame).select("delay").collect().shape == (3, 1)
    assert [path.name for path in found.load(Path).iterdir()] == ["table.parquet"]
    assert (found.ref.shape, found.summary["rows"]) == ("3 rows × 2 columns", 3)
    assert found.summary["columns"][0] == {
        "name": "carrier",
        "type": "large_string",
        "nulls": 1,
        "min": "AA",
        "max": "B6",
    }
    under = [key for key in open_stack().store.transport.list("artifacts") if found.ref.digest in key]
    assert [key.rpartition("/")[2] for key in under] == ["manifest.json"]


def test_a_folder_is_a_path(root):
    """A registered folder loads as a path with its files, and so does a file that is no table."""
    write_object("raw/images/a.png", b"a")
    write_object("raw/images/deep/b.png", b"bb")
    found = register_artifact(f"{root}/raw/images/", "images")
    path = found.load()
    assert path.name == "images"
    assert {held.relative_to(path).as_posix() for held in path.rglob("*") if held.is_file()} == {"a.png", "deep/b.png"}
    assert (path / "deep" / "b.png").read_bytes() == b"bb"
    one = register_artifact(f"{root}/raw/images/a.png", "one")
    assert (one.load().name, one.load().read_bytes(), one.ref.shape) == ("a.png", b"a", "1 file")


def test_a_changed_file_is_refused(root):
    """Loading a file that changed after it was registered is an error, whose remedy is to register it again."""
    write_object("raw/a.csv", b"1,2")
    register_artifact(f"{root}/raw/a.csv", "a")
    write_object("raw/a.csv", b"1,3")
    with pytest.raises(ArtifactCorrupt, match=r"raw/a.csv has changed since it was registered.*Register it again"):
        airflow_zen.artifact("a").load()
    assert register_artifact(f"{root}/raw/a.csv", "a").load().read_bytes() == b"1,3"
    assert len(airflow_zen.artifact("a").versions()) == 2
    open_stack().store.transport.delete(["raw/a.csv"])
    with pytest.raises(ArtifactNotFound, match=r"raw/a\.csv"):
        airflow_zen.artifact("a").load()


def test_the_same_content_is_one_artifact(root, tmp_path):
    """An artifact of the store stays one when it is registered; a registered one is stored when it is saved."""
    (tmp_path / "a.csv").write_bytes(b"x" * 2_000_000)
    write_object("raw/a.csv", b"x" * 2_000_000)
    registered = register_artifact(f"{root}/raw/a.csv", "registered")
    saved = save_artifact(tmp_path / "a.csv", "saved")
    assert saved.ref.digest == registered.ref.digest
    again = register_artifact(f"{root}/raw/a.csv", "again")
    open_stack().store.transport.delete(["raw/a.csv"])
    for name in ("registered", "saved", "again"):
        assert airflow_zen.artifact(name).load().stat().st_size == 2_000_000
    assert again.manifest.at == {}


def test_what_cannot_be_registered_is_refused(root):
    """Missing data, an address outside the root, reserved folders and an invalid parquet file are refused."""
    write_object("raw/bad.parquet", b"not parquet")
    for uri, error, told in [
        (f"{root}/raw/none", ArtifactNotFound, "There is nothing at"),
        ("s3://elsewhere/x", SettingsError, "is not under"),
        (f"{root}/raw/../x", SettingsError, "is not under"),
        (f"{root}/artifacts/ab", SettingsError, "writes itself"),
        (f"{root}/raw/bad.parquet", ArtifactRefused, "is no parquet file"),
    ]:
        with pytest.raises(error, match=told):
            register_artifact(uri, "x")
    with pytest.raises(ArtifactNameError):
        register_artifact(f"{root}/raw/bad.parquet", "/x")
    assert airflow_zen.artifacts() == []


def test_a_forged_address_is_refused(root):
    """A manifest that names a file outside the root cannot read it."""
    write_object("raw/a", b"a")
    found = register_artifact(f"{root}/raw/a", "a")
    key = f"artifacts/{found.ref.digest[:2]}/{found.ref.digest}/manifest.json"
    transport = open_stack().store.transport
    for place in ("../../etc/passwd", "/etc/passwd"):
        document = json.loads(transport.read(key)) | {"at": {"files/a": place}}
        transport.write(key, json.dumps(document).encode())
        with pytest.raises(ArtifactRefused, match="is outside it"):
            airflow_zen.artifact("a").load()


def test_pruning_leaves_the_data(tmp_path, monkeypatch):
    """Pruning a registered artifact deletes its manifest, and leaves the data."""
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path / "root"))
    write_object("raw/a", b"a")
    found = register_artifact(f"{tmp_path}/root/raw/a", "a")
    transport = open_stack().store.transport
    transport.delete(list(transport.list("names")))
    for each in transport.list("artifacts"):
        os.utime(tmp_path / "root" / each, (1, 1))
    for _ in range(2):
        airflow_zen.prune(grace="0s")
    assert not transport.exists(f"artifacts/{found.ref.digest[:2]}/{found.ref.digest}/manifest.json")
    assert transport.read("raw/a") == b"a"
