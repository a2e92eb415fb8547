"""Read a connection of type `wasb` or `adls`, by the names that the Azure provider documents, as options of adlfs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

# Of the identity that Azure gives the worker; adlfs hands them to DefaultAzureCredential.
_IDENTITY_FIELDS = ("managed_identity_client_id", "workload_identity_client_id", "workload_identity_tenant_id")
_EXTRA_FIELDS = ("account_name", "account_key", "account_host", "anon", *_IDENTITY_FIELDS)


def azure_options(connection: Any, extra: Mapping[str, Any]) -> dict[str, Any]:
    """Give the options; a connection string wins over all else, and without any key the worker's identity is used."""
    prefix = f"extra__{connection.conn_type}__"
    extra = {name.removeprefix(prefix): value for name, value in extra.items() if value or value is False}
    if "connection_string" in extra:
        return {"connection_string": extra["connection_string"]}
    if str(extra.get("sas_token", "")).startswith("https://"):
        address, _, token = extra["sas_token"].partition("?")
        return _sas_options(_account_name(address), token)
    options = _account_options(connection, extra) | {name: extra[name] for name in _EXTRA_FIELDS if name in extra}
    if "://" in (connection.host or "") and "account_name" in options:
        return _with_endpoint(connection.host, options)
    auth = {"account_key", "sas_token", "client_secret", "anon"} & set(options)
    return options if auth else options | {"anon": False}


def _account_options(connection: Any, extra: Mapping[str, Any]) -> dict[str, Any]:
    account = _account_name(connection.host or "")
    if "tenant_id" in extra:
        principal = {
            "client_id": connection.login,
            "client_secret": connection.password,
            "tenant_id": extra["tenant_id"],
        }
        return principal | {"account_name": account}
    options = {"account_name": connection.login or account}
    if "sas_token" in extra:
        return options | {"sas_token": extra["sas_token"].lstrip("?")}
    return options | _without_empty({"account_key": extra.get("shared_access_key") or connection.password})


def _sas_options(account: str, token: str) -> dict[str, Any]:
    return {"account_name": account, "sas_token": token}


def _with_endpoint(host: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Name the address as well: only a connection string tells every client of another one than Azure's own."""
    if "account_key" in options:
        auth = f"AccountKey={options['account_key']}"
    elif "sas_token" in options:
        auth = f"SharedAccessSignature={options['sas_token']}"
    else:
        return {"account_host": urlsplit(host).netloc, **options}
    name = f"AccountName={options['account_name']}"
    return {"connection_string": f"BlobEndpoint={host.rstrip('/')};{name};{auth}"}


def _account_name(host: str) -> str:
    """Read the account from its address, `https://ACCOUNT.blob.core.windows.net`; empty where it is none of Azure's."""
    name = urlsplit(host if "://" in host else f"//{host}").hostname or ""
    account, dot, rest = name.partition(".")
    return account if dot and not rest.replace(".", "").isdigit() else ""


def _without_empty(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value}
