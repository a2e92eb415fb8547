"""What our tests may expect of each S3 server."""

import pytest
from botocore.exceptions import ClientError


@pytest.fixture(scope="module")
def client(s3):
    return s3.client()


def put(client, s3, key, body, **conditions):
    client.put_object(Bucket=s3.bucket, Key=key, Body=body, **conditions)


def get(client, s3, key, **options):
    return client.get_object(Bucket=s3.bucket, Key=key, **options)["Body"].read()


def test_gives_back_what_was_put(client, s3):
    """A plain AWS client puts an object, lists it and gets the same bytes back."""
    put(client, s3, "smoke/plain", b"\x00bytes")
    assert get(client, s3, "smoke/plain") == b"\x00bytes"
    listed = client.list_objects_v2(Bucket=s3.bucket, Prefix="smoke/plain")["Contents"]
    assert [entry["Key"] for entry in listed] == ["smoke/plain"]


def test_conditional_create(client, s3):
    """`If-None-Match: *` on an existing key is refused by Ceph and moto; rclone overwrites."""
    put(client, s3, "smoke/once", b"first")
    if s3.conditional_writes:
        with pytest.raises(ClientError, match="PreconditionFailed"):
            put(client, s3, "smoke/once", b"second", IfNoneMatch="*")
        assert get(client, s3, "smoke/once") == b"first"
    else:
        put(client, s3, "smoke/once", b"second", IfNoneMatch="*")
        assert get(client, s3, "smoke/once") == b"second"


def test_storage_options(s3):
    """The storage options alone are enough for s3fs."""
    import fsspec

    filesystem = fsspec.filesystem("s3", **s3.storage_options())
    filesystem.pipe_file(f"{s3.bucket}/smoke/s3fs", b"s3fs")
    assert filesystem.cat_file(f"{s3.bucket}/smoke/s3fs") == b"s3fs"


def test_environment(s3, monkeypatch):
    """The environment alone is enough for a client that is told nothing."""
    import boto3

    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)
    client = boto3.Session().client("s3")
    client.put_object(Bucket=s3.bucket, Key="smoke/environment", Body=b"environment")
    assert client.get_object(Bucket=s3.bucket, Key="smoke/environment")["Body"].read() == b"environment"
