"""Promises of `aws` connections, tested on S3 and STS servers."""

import json
import os
import subprocess
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from airflow.sdk import Connection

from airflow_zen.errors import StoreDenied
from airflow_zen.transports import open_transport
from airflow_zen.transports.credentials import fsspec_options
from airflow_zen.transports.fsspec import FsspecTransport
from airflow_zen.transports.obstore import ObstoreTransport
from tests.advice import advice_of
from tests.servers.moto import moto as moto_server
from tests.servers.s3 import REGION

ROLE = "arn:aws:iam::123456789012:role/artifacts"


def connection(server, *, keys=True, **extra):
    """An `aws` connection to a server."""
    return Connection(
        conn_id="store",
        conn_type="aws",
        login=server.access_key if keys else None,
        password=server.secret_key if keys else None,
        extra=json.dumps({"endpoint_url": server.endpoint, "region_name": REGION, **extra}),
    )


@pytest.fixture(params=["obstore", "fsspec"])
def open_by_connection(request):
    """Open the bucket of a server by a connection, through each client."""

    def open_by(connection, root):
        options = fsspec_options(connection)
        if request.param == "fsspec":
            return FsspecTransport(root, options)
        transport = open_transport(root, options)
        assert isinstance(transport, ObstoreTransport)
        return transport

    return open_by


@pytest.mark.parametrize(
    ("arguments", "stored"),
    [
        ({}, {}),
        ({"ServerSideEncryption": "AES256"}, {"ServerSideEncryption": "AES256"}),
        ({"ServerSideEncryption": "aws:kms"}, {"ServerSideEncryption": "aws:kms"}),
        (
            {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "arn:aws:kms:us-east-1:123456789012:key/k"},
            {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "arn:aws:kms:us-east-1:123456789012:key/k"},
        ),
    ],
)
def test_objects_are_encrypted_as_configured(moto, open_by_connection, arguments, stored, tmp_path):
    """With `extra_args` in the connection every object is stored with that encryption and key."""
    (tmp_path / "manifest.json").write_text("{}")
    transport = open_by_connection(
        connection(moto, service_config={"s3": {"extra_args": arguments}}), f"{moto.root}/sse-{os.getpid()}"
    )
    transport.write("one", b"1")
    transport.publish(tmp_path, "two", last="manifest.json")
    transport.copy("two", f"{transport.root}/three", ["manifest.json"])
    for key in ("one", "two/manifest.json", "three/manifest.json"):
        head = moto.client().head_object(Bucket=moto.bucket, Key=f"sse-{os.getpid()}/{key}")
        assert {name: head.get(name) for name in stored} == stored, key


def test_objects_are_encrypted_with_a_customers_key(ceph, open_by_connection):
    """With a customer's key (SSE-C) objects can be read with that key only."""
    arguments = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "k" * 32}
    transport = open_by_connection(
        connection(ceph, service_config={"s3": {"extra_args": arguments}}), f"{ceph.root}/sse-c"
    )
    transport.write("a/one", b"secret")
    assert transport.read("a/one") == b"secret"
    assert transport.exists("a/one")
    with pytest.raises(ceph.client().exceptions.ClientError):
        ceph.client().get_object(Bucket=ceph.bucket, Key="sse-c/a/one")


@pytest.fixture(scope="module")
def unprivileged_user(ceph):
    """A user without access to the bucket, who may assume a role with access."""
    subprocess.run(
        [*ceph.admin, "user", "create", "--uid=visitor", "--display-name=visitor", "--access-key=v", "--secret-key=v"],
        check=True,
        capture_output=True,
    )
    trust = {"Effect": "Allow", "Principal": {"AWS": ["arn:aws:iam:::user/visitor"]}, "Action": ["sts:AssumeRole"]}
    may = {"Effect": "Allow", "Action": ["s3:*"], "Resource": ["arn:aws:s3:::*"]}
    role = ["--role-name=artifacts"]
    subprocess.run(
        [*ceph.admin, "role", "create", *role, "--path=/", f"--assume-role-policy-doc={_policy(trust)}"],
        check=True,
        capture_output=True,
    )
    subprocess.run(
        [*ceph.admin, "role-policy", "put", *role, "--policy-name=all", f"--policy-doc={_policy(may)}"],
        check=True,
        capture_output=True,
    )
    return replace(ceph, access_key="v", secret_key="v")


def _policy(statement):
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def test_a_role_is_assumed(unprivileged_user, open_by_connection):
    """With `role_arn` requests are sent as the role, which has access that the keys alone do not have."""
    with pytest.raises(StoreDenied):
        open_by_connection(connection(unprivileged_user), f"{unprivileged_user.root}/role").write("one", b"1")
    sts = {"sts": {"endpoint_url": unprivileged_user.endpoint}}
    conn = connection(unprivileged_user, role_arn="arn:aws:iam:::role/artifacts", service_config=sts)
    transport = open_by_connection(conn, f"{unprivileged_user.root}/role")
    transport.write("one", b"1")
    assert transport.read("one") == b"1"
    assert list(transport.list("")) == ["one"]


def test_a_role_that_cannot_be_assumed(unprivileged_user, open_by_connection):
    """The error for a role that does not exist, or does not trust the user, names the setting to fix, and it helps."""
    sts = {"sts": {"endpoint_url": unprivileged_user.endpoint}}
    root = f"{unprivileged_user.root}/role"

    def write_as(**option):
        open_by_connection(connection(unprivileged_user, service_config=sts, **option), root).write("one", b"1")

    (option,) = advice_of(
        lambda: write_as(role_arn="arn:aws:iam:::role/nosuch"),
        r"role/nosuch cannot be assumed: .* Check (role_arn) and assume_role_kwargs of the connection",
    )
    write_as(**{option: "arn:aws:iam:::role/artifacts"})


def test_a_role_is_renewed_before_it_ends(moto):
    """Credentials of a role are renewed before they expire, however long a task runs."""
    sts = {"sts": {"endpoint_url": moto.endpoint}}
    conn = connection(moto, role_arn=ROLE, service_config=sts, assume_role_kwargs={"DurationSeconds": 900})
    provide = fsspec_options(conn)["aws_credentials"].obstore_provider()
    first, second = provide(), provide()
    assert first["access_key_id"].startswith("ASIA")
    assert first["access_key_id"] != second["access_key_id"]
    assert first["token"]
    assert (first["expires_at"] - datetime.now(UTC)).total_seconds() < 600


def test_a_role_is_assumed_by_web_identity(moto, open_by_connection, tmp_path):
    """With a token file no keys are needed to assume the role."""
    (tmp_path / "token").write_text("header.payload.signature")
    conn = connection(
        moto,
        keys=False,
        role_arn=ROLE,
        assume_role_method="assume_role_with_web_identity",
        assume_role_with_web_identity_federation="file",
        assume_role_with_web_identity_token_file=str(tmp_path / "token"),
        service_config={"sts": {"endpoint_url": moto.endpoint}},
    )
    transport = open_by_connection(conn, f"{moto.root}/web")
    transport.write("one", b"1")
    assert transport.read("one") == b"1"


def test_a_role_by_saml_is_refused(moto, tmp_path, monkeypatch):
    """An unsupported way to assume a role is refused; the supported ones work, and so does a role of ~/.aws/config."""
    sts = {"sts": {"endpoint_url": moto.endpoint}}

    def transport_by(method, **extra):
        conn = connection(moto, role_arn=ROLE, assume_role_method=method, service_config=sts, **extra)
        return open_transport(f"{moto.root}/{method}", fsspec_options(conn))

    *methods, federation, file = advice_of(
        lambda: transport_by("assume_role_with_saml"),
        r"supports '(\w+)', and '(\w+)' with federation '(file)' and a token file\. Use one of these, or leave \[zen\] "
        r"artifact_conn_id empty and give the worker the role through its environment or ~/(\.aws/config)",
    )
    (tmp_path / "token").write_text("header.payload.signature")
    web = {"federation": federation, "token_file": str(tmp_path / "token")}
    web = {f"assume_role_with_web_identity_{name}": value for name, value in web.items()}
    opened = [transport_by(method, **web) for method in methods]
    (tmp_path / ".aws").mkdir()
    keys = f"aws_access_key_id = {moto.access_key}\naws_secret_access_key = {moto.secret_key}\n"
    (tmp_path / file).write_text(
        f"[default]\nregion = {REGION}\nrole_arn = {ROLE}\nsource_profile = own\n[profile own]\n{keys}"
    )
    for name, value in {"HOME": str(tmp_path), "AWS_ENDPOINT_URL": moto.endpoint}.items():
        monkeypatch.setenv(name, value)
    for each in (*opened, open_transport(f"{moto.root}/without-a-connection", {})):
        each.write("one", b"1")
        assert each.read("one") == b"1"


def test_a_profile_is_used(ceph, open_by_connection, tmp_path, monkeypatch):
    """With `profile_name` the keys are those of the worker's own profile of that name."""
    (tmp_path / "credentials").write_text(
        f"[work]\naws_access_key_id = {ceph.access_key}\naws_secret_access_key = {ceph.secret_key}\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    transport = open_by_connection(connection(ceph, keys=False, profile_name="work"), f"{ceph.root}/profile")
    transport.write("one", b"1")
    assert transport.read("one") == b"1"


def test_a_missing_profile_is_named(ceph, monkeypatch, tmp_path):
    """The error for a missing profile names the profile and its file, in which it is found."""
    monkeypatch.setenv("HOME", str(tmp_path))
    options = fsspec_options(connection(ceph, keys=False, profile_name="nosuch"))
    profile, folder = advice_of(
        lambda: open_transport(f"{ceph.root}/profile", options), r"Check that profile '(\w+)' is in ~/(\.aws) of"
    )
    (tmp_path / folder).mkdir()
    keys = f"aws_access_key_id = {ceph.access_key}\naws_secret_access_key = {ceph.secret_key}\n"
    (tmp_path / folder / "credentials").write_text(f"[{profile}]\n{keys}")
    open_transport(f"{ceph.root}/profile", options).write("one", b"1")


def test_a_role_without_keys(moto, tmp_path, monkeypatch):
    """A role that nothing may assume is refused; with keys or a profile it is assumed, and anonymous access needs none."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".aws").mkdir()
    keys = f"aws_access_key_id = {moto.access_key}\naws_secret_access_key = {moto.secret_key}\n"
    (tmp_path / ".aws" / "credentials").write_text(f"[own]\n{keys}")

    def opened_with(login=None, password=None, **extra):
        sts = {"sts": {"endpoint_url": moto.endpoint}}
        conn = connection(moto, keys=False, role_arn=ROLE, service_config=sts, **extra)
        conn.login, conn.password = login, password
        return open_transport(f"{moto.root}/without-keys", fsspec_options(conn))

    login, password, profile = advice_of(
        opened_with, r": give the connection a (login) and (password), or (profile_name), or anonymous access\.$"
    )
    opened_with(**{login: moto.access_key, password: moto.secret_key}).write("one", b"1")
    opened_with(**{profile: "own"}).write("one", b"1")
    moto.client().put_object(Bucket=moto.bucket, Key="without-keys/public", Body=b"2", ACL="public-read")
    assert opened_with(config_kwargs={"signature_version": "unsigned"}).read("public") == b"2"


def test_public_data_is_read_without_credentials(ceph, open_by_connection):
    """With `signature_version` unsigned, requests have no signature, and only public objects can be read."""
    for key, acl in (("public", "public-read"), ("private", "private")):
        ceph.client().put_object(Bucket=ceph.bucket, Key=f"anonymous/{key}", Body=key.encode(), ACL=acl)
    conn = connection(ceph, config_kwargs={"signature_version": "unsigned"})
    transport = open_by_connection(conn, f"{ceph.root}/anonymous")
    assert transport.read("public") == b"public"
    with pytest.raises(StoreDenied, match="Check the credentials"):
        transport.read("private")


def test_a_store_that_refuses_new_checksums(rclone, open_by_connection):
    """With `config_kwargs` a store works that refuses the checksums which clients send by default."""
    when = {"request_checksum_calculation": "when_required", "response_checksum_validation": "when_required"}
    transport = open_by_connection(connection(rclone, config_kwargs=when), f"{rclone.root}/checksums")
    transport.write("one", b"1")
    assert transport.read("one") == b"1"


def test_session_token(moto, open_by_connection):
    """Temporary credentials with `aws_session_token` are used as they are."""
    transport = open_by_connection(connection(moto, aws_session_token="temporary"), f"{moto.root}/token")
    transport.write("one", b"1")
    assert transport.read("one") == b"1"


def test_virtual_addressing(moto, open_by_connection, monkeypatch):
    """With `addressing_style` virtual the bucket is part of the host's name."""
    # No resolver here knows such hosts; as a proxy the server is handed them by name.
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, moto.endpoint)
    conn = connection(
        moto, endpoint_url="http://s3.amazonaws.com", config_kwargs={"s3": {"addressing_style": "virtual"}}
    )
    transport = open_by_connection(conn, f"{moto.root}/virtual")
    transport.write("one", b"by host")
    assert transport.read("one") == b"by host"
    assert moto.client().get_object(Bucket=moto.bucket, Key="virtual/one")["Body"].read() == b"by host"


@pytest.fixture(scope="module")
def moto_over_tls(tmp_path_factory):
    """Moto with a certificate that only its own CA bundle trusts."""
    with moto_server(tmp_path_factory.mktemp("moto-tls"), tls=True) as server:
        yield server


@pytest.mark.parametrize("verify", ["the bundle", False])
def test_a_private_certificate(moto_over_tls, open_by_connection, verify):
    """With `verify` a store is trusted by a CA bundle, or without verification; otherwise it is refused."""
    conn = connection(moto_over_tls, verify=moto_over_tls.certificate if verify else False)
    transport = open_by_connection(conn, f"{moto_over_tls.root}/tls")
    transport.write("one", b"1")
    assert transport.read("one") == b"1"


@pytest.mark.parametrize(
    ("wrong", "root", "remedy"),
    [
        (
            {"login": "nobody"},
            "s3://zen/x",
            r"refused access to s3://zen/x \(\w+\)\. Check the credentials",
        ),
        ({"password": "wrong"}, "s3://zen/x", r"refused access to s3://zen/x \(\w+\)\. Check the credentials"),
        ({}, "s3://no-such-bucket/x", "no bucket or container as in s3://no-such-bucket/x"),
    ],
)
def test_errors_name_the_remedy(ceph, open_by_connection, wrong, root, remedy):
    """The error for wrong keys or a missing bucket names the setting to fix; its cause is the server's error."""
    conn = connection(ceph)
    for name, value in wrong.items():
        setattr(conn, name, value)
    transport = open_by_connection(conn, root)
    with pytest.raises(StoreDenied, match=remedy) as refused:
        transport.write("one", b"1")
    assert refused.value.__cause__ is not None
    for asked in (transport.list, transport.list_objects, transport.list_prefixes):
        with pytest.raises(StoreDenied, match="artifact_root|artifact_conn_id"):
            list(asked("runs"))
    with pytest.raises(StoreDenied, match="artifact_root|artifact_conn_id"):
        transport.first_key("runs")
