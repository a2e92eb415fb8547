"""Promises of `google_cloud_platform` connections, tested on an emulator where it supports them."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs

import pytest
from airflow.sdk import Connection
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from airflow_zen.errors import StoreDenied
from airflow_zen.transports import open_transport
from airflow_zen.transports.credentials import fsspec_options
from airflow_zen.transports.fsspec import FsspecTransport
from tests.advice import advice_of


def connection(**extra):
    """A connection to Google."""
    return Connection(conn_id="store", conn_type="google_cloud_platform", extra=json.dumps(extra))


def test_anonymous(google):
    """With `is_anonymous` and `gcs.endpoint` requests go to an emulator without credentials."""
    conn = connection(is_anonymous=True, **{"gcs.endpoint": google.endpoint})
    transport = open_transport(f"{google.root}/anonymous", fsspec_options(conn))
    assert isinstance(transport, FsspecTransport)
    transport.write("one", b"1")
    assert transport.read("one") == b"1"


@pytest.fixture
def token_server():
    """A server that issues tokens to service accounts, as Google's does, and collects the requests."""
    requests = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            requests.append(parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode()))
            granted = {"access_token": "t", "expires_in": 3600, "token_type": "Bearer"}
            answer = json.dumps(granted).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/token", requests
        server.shutdown()


def service_account(address):
    """A service account's key with the address of its token server."""
    private = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {
        "type": "service_account",
        "project_id": "zen",
        "private_key": private.decode(),
        "client_email": "worker@zen.iam.gserviceaccount.com",
        "token_uri": address,
    }


@pytest.mark.parametrize("form", ["keyfile_dict", "keyfile_dict as text", "key_path"])
def test_a_service_account_requests_a_token(google, token_server, form, tmp_path):
    """With a service account's key, in the connection or in a file, its token is requested and used."""
    address, requests = token_server
    key = service_account(address)
    (tmp_path / "key.json").write_text(json.dumps(key))
    extra = {
        "keyfile_dict": {"keyfile_dict": key},
        "keyfile_dict as text": {"keyfile_dict": json.dumps(key)},
        "key_path": {"key_path": str(tmp_path / "key.json")},
    }[form]
    conn = connection(**extra, **{"gcs.endpoint": google.endpoint})
    transport = open_transport(f"{google.root}/account", fsspec_options(conn))
    transport.write("one", b"1")
    assert transport.read("one") == b"1"
    assert "assertion" in requests[0]


def test_unsupported_fields_are_refused(google, token_server, tmp_path, monkeypatch):
    """A connection with impersonation is refused; each field that the error names works, and so does a worker's identity."""
    address, _ = token_server
    (tmp_path / "key.json").write_text(json.dumps(service_account(address)))
    *fields, _ = advice_of(
        lambda: fsspec_options(connection(impersonation_chain="a@b")),
        r"'impersonation_chain'.*Use (\w+), (\w+) or (\w+), or leave (\[zen\] artifact_conn_id) empty and give the worker",
    )
    for field in fields:
        key = service_account(address) if field == "keyfile_dict" else str(tmp_path / "key.json")
        conn = connection(**{field: key, "gcs.endpoint": google.endpoint})
        open_transport(f"{google.root}/{field}", fsspec_options(conn)).write("one", b"1")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    transport = open_transport(f"{google.root}/identity", {"endpoint_url": google.endpoint})
    transport.write("one", b"1")
    assert transport.read("one") == b"1"


def test_a_missing_bucket_names_the_setting(google):
    """The error for a missing bucket names the setting to fix."""
    with pytest.raises(StoreDenied, match=r"no bucket or container as in gs://no-such/x.*\[zen\] artifact_root"):
        open_transport("gs://no-such/x", google.storage_options()).write("one", b"1")
