"""Promises of `wasb` and `adls` connections, tested on Azurite where it supports them."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from airflow.sdk import Connection

from airflow_zen.errors import StoreDenied
from airflow_zen.transports import open_transport
from airflow_zen.transports.credentials import fsspec_options
from airflow_zen.transports.fsspec import FsspecTransport
from airflow_zen.transports.obstore import ObstoreTransport, to_obstore_settings


def connection(conn_type="wasb", *, host=None, login=None, password=None, **extra):
    """A connection to Azure."""
    return Connection(
        conn_id="store", conn_type=conn_type, host=host, login=login, password=password, extra=json.dumps(extra)
    )


def sas_token(azure):
    """A shared access signature for the container."""
    from azure.storage.blob import ContainerSasPermissions, generate_container_sas

    return generate_container_sas(
        azure.account,
        azure.container,
        account_key=azure.key,
        permission=ContainerSasPermissions(read=True, write=True, list=True, delete=True, create=True),
        expiry=datetime.now(UTC) + timedelta(hours=1),
    )


FORMS = {
    "connection string": lambda azure: connection(connection_string=azure.connection_string),
    "account key": lambda azure: connection(host=azure.endpoint, login=azure.account, password=azure.key),
    "adls account key": lambda azure: connection("adls", host=azure.endpoint, login=azure.account, password=azure.key),
    "shared access key": lambda azure: connection(
        host=azure.endpoint, login=azure.account, shared_access_key=azure.key
    ),
    "signature": lambda azure: connection(host=azure.endpoint, login=azure.account, sas_token=sas_token(azure)),
}


@pytest.mark.parametrize("client", ["obstore", "fsspec"])
@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_connection_opens_the_container(azure, form, client):
    """Each form of a key in a connection opens the container, through each client."""
    options, root = fsspec_options(FORMS[form](azure)), f"{azure.root}/{form.replace(' ', '-')}-{client}"
    transport = FsspecTransport(root, options) if client == "fsspec" else open_transport(root, options)
    assert isinstance(transport, FsspecTransport if client == "fsspec" else ObstoreTransport)
    transport.write("a", b"1")
    assert transport.read("a") == b"1"
    transport.delete(["a", "gone"])
    assert list(transport.list("")) == []


@pytest.mark.parametrize(
    ("held", "options"),
    [
        (
            connection(host="https://acc.blob.core.windows.net", login="app", password="hush", tenant_id="t"),
            {"account_name": "acc", "client_id": "app", "client_secret": "hush", "tenant_id": "t"},
        ),
        (
            connection("adls", host="acc", login="app", password="hush", tenant_id="t", account_name="acc"),
            {"account_name": "acc", "client_id": "app", "client_secret": "hush", "tenant_id": "t"},
        ),
        (
            connection(login="acc", managed_identity_client_id="m"),
            {"account_name": "acc", "managed_identity_client_id": "m", "anon": False},
        ),
        (connection(login="acc", anon=True), {"account_name": "acc", "anon": True}),
        (
            connection(sas_token="https://acc.blob.core.windows.net/?sv=1&sig=s"),
            {"account_name": "acc", "sas_token": "sv=1&sig=s"},
        ),
        (connection(login="acc", extra__wasb__sas_token="?sv=1"), {"account_name": "acc", "sas_token": "sv=1"}),
    ],
)
def test_identities_are_left_to_azures_own_library(held, options):
    """Service principals and managed identities are passed to adlfs unchanged, and never to obstore."""
    held = dict(fsspec_options(held))
    held.pop("account_host", None)
    assert held == options
    if "sas_token" not in options:
        assert to_obstore_settings("az", "az://c", options, {}) is None


def test_a_connection_string_without_an_address():
    """The account and the suffix of a connection string form the address."""
    text = "DefaultEndpointsProtocol=https;AccountName=acc;AccountKey=aGk=;EndpointSuffix=core.chinacloudapi.cn"
    settings = to_obstore_settings("az", "az://c", {"connection_string": text}, {})
    assert settings.config["endpoint"] == "https://acc.blob.core.chinacloudapi.cn"
    assert settings.config["account_key"] == "aGk="
    assert "aGk=" not in repr(settings)


@pytest.mark.parametrize("client", ["obstore", "fsspec"])
@pytest.mark.parametrize(
    ("key", "container", "remedy"),
    [
        ("d3Jvbmc=", "zen", r"refused access to az://zen/x \(AuthorizationFailure\). Check the credentials"),
        (None, "no-such", "no bucket or container as in az://no-such/x"),
    ],
)
def test_errors_name_the_remedy(azure, client, key, container, remedy):
    """The error for a wrong key or a missing container names the setting to fix."""
    options = fsspec_options(connection(host=azure.endpoint, login=azure.account, password=key or azure.key))
    root = f"az://{container}/x"
    transport = FsspecTransport(root, options) if client == "fsspec" else open_transport(root, options)
    with pytest.raises(StoreDenied, match=remedy):
        transport.write("one", b"1")
