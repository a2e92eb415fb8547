"""Promises of `airflow_zen.artifacts.reader`."""

from dataclasses import replace

import pytest

from airflow_zen.artifacts.reader import ArtifactReader
from airflow_zen.artifacts.ref import ArtifactFile, ArtifactRef, content_digest
from airflow_zen.artifacts.store import ArtifactStore
from airflow_zen.errors import ArtifactRefused
from airflow_zen.transports import open_transport

ROOT = "s3://bucket/root"
FILES = (ArtifactFile("table.parquet", 9_000_000, "ab" * 32),)
DIGEST = content_digest("polars.parquet@1", "polars.DataFrame", FILES)
KEY = f"artifacts/{DIGEST[:2]}/{DIGEST}"
REF = ArtifactRef(DIGEST, f"{ROOT}/{KEY}", "polars.parquet@1", "polars.DataFrame", 9_000_000, files=FILES)


@pytest.fixture
def store():
    """A store on S3 that receives no request."""
    return ArtifactStore(ROOT, open_transport(ROOT, {"key": "k", "secret": "s", "client_kwargs": {"region_name": "x"}}))


def test_the_url_is_in_the_root(store, tmp_path):
    """Another client gets the URL of the artifact's key, with the store's settings."""
    url, options = ArtifactReader(store, REF, tmp_path).object_store_url("table.parquet")
    assert url == f"{ROOT}/{KEY}/table.parquet"
    assert options["aws_secret_access_key"] == "s"


@pytest.mark.parametrize("uri", ["http://192.0.2.1/evil", "s3://other/root/" + KEY, ROOT])
def test_credentials_are_not_given_to_other_roots(store, tmp_path, uri):
    """A ref outside the root gets no URL, and so none of the store's credentials."""
    with pytest.raises(ArtifactRefused, match="outside the artifact root"):
        ArtifactReader(store, replace(REF, uri=uri), tmp_path).object_store_url("table.parquet")
