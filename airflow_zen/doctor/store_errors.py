"""The meaning and the remedy of a store's errors, and the endpoint of a store."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from airflow_zen.errors import StoreUnavailable, ZenError

if TYPE_CHECKING:
    from airflow_zen.config.settings import Settings

# S3's error code, in the answer that obstore quotes or in the message of botocore.
_S3_ERROR_CODE = re.compile(r"<Code>(\w+)</Code>|An error occurred \((\w+)\)")
_HTTP_STATUS = re.compile(r"status code: (\d{3})")
_BLOB_ENDPOINT = re.compile(r"(?:^|;)\s*BlobEndpoint\s*=\s*([^;]+)", re.IGNORECASE)

_REMEDIES = {
    "InvalidAccessKeyId": "The store does not know this access key. Correct the key id in {credentials}.",
    "SignatureDoesNotMatch": "The secret does not match this access key. Correct the secret in {credentials}.",
    "NoSuchBucket": "There is no bucket {bucket!r} at this endpoint. Create it, or correct {root}.",
    # Some stores return this for a wrong key too.
    "AccessDenied": "The store refuses this key. Correct key and secret in {credentials}, or allow the key s3:PutObject, "
    "s3:GetObject, s3:DeleteObject and s3:ListBucket on bucket {bucket!r}.",
    "RequestTimeTooSkewed": "This machine's clock is wrong. Set it (chrony or systemd-timesyncd).",
    "ExpiredToken": "The session token in {credentials} has expired. Renew it, or use a role.",
    "InvalidToken": "The session token in {credentials} is not valid. Renew it, or remove it.",
    "MethodNotAllowed": "The server at this endpoint is not an S3 API. Correct endpoint_url in {credentials}.",
} | dict.fromkeys(
    ("AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException"),
    "The bucket is in another region. Set region_name in {credentials} to that region.",
)
_MISSING_CREDENTIALS = (
    "Unable to locate credentials",
    "NoCredentials",
    "credential provider",
    "CredentialsError",
    "169.254.169.254",
)


def diagnose(error: BaseException, settings: Settings) -> tuple[str, str]:
    """Return an error of a store's library in one line, and its remedy; the remedy is empty if it is unknown."""
    text = " ".join(str(each) for each in _error_chain(error))
    match = _S3_ERROR_CODE.search(text)
    code = next(filter(None, match.groups())) if match else ""
    if code and (code in _REMEDIES or not isinstance(error, ZenError)):
        status = _HTTP_STATUS.search(text)
        return f"{code}{f' (HTTP {status[1]})' if status else ''}", _remedy(code, settings)
    if any(sign in text for sign in _MISSING_CREDENTIALS):
        option = settings.qualified_option("artifact_conn_id")
        return "no credentials were found", f"Name a connection in {option}, or set AWS_ACCESS_KEY_ID."
    if isinstance(error, ZenError):
        # An error of a remote store contains its remedy, even if it is a `PermissionError`.
        return code or ("no answer" if isinstance(error, StoreUnavailable) else "refused"), str(error)
    if isinstance(error, PermissionError):
        option = settings.qualified_option("artifact_root")
        return str(error), f"Let this user write under {settings.artifact_root}, or choose another root in {option}."
    first = next((line for line in text.splitlines() if line.strip()), repr(error))
    return f"{type(error).__name__}: {first[:200]}", ""


def _remedy(code: str, settings: Settings) -> str:
    conn_id = settings.artifact_conn_id
    return _REMEDIES.get(code, "").format(
        bucket=urlsplit(settings.artifact_root).netloc,
        root=settings.qualified_option("artifact_root"),
        credentials=f"connection {conn_id!r}" if conn_id else "the environment (AWS_* or ~/.aws)",
    )


def _error_chain(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


class Endpoint(NamedTuple):
    """A store's URL, and where it is configured."""

    url: str
    source: str


def endpoint_of(root: str, options: Mapping[str, Any]) -> Endpoint | None:
    """Return the endpoint of a root; None for a local root, an unknown scheme, or behind a proxy."""
    scheme = root.partition("://")[0]
    if "://" not in root or any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy")):
        return None
    if scheme in {"s3", "s3a"}:
        return _s3_endpoint(options)
    if scheme in {"gs", "gcs"}:
        configured = options.get("endpoint_url")
        return Endpoint(str(configured or "https://storage.googleapis.com"), "the connection's extra")
    return _azure_endpoint(options) if scheme in {"az", "abfs", "abfss"} else None


def _azure_endpoint(options: Mapping[str, Any]) -> Endpoint | None:
    match = _BLOB_ENDPOINT.search(str(options.get("connection_string", "")))
    if match:
        return Endpoint(match[1], "the connection's host or connection string")
    if options.get("account_host"):
        return Endpoint(f"https://{options['account_host']}", "the connection's host")
    account = options.get("account_name") or os.environ.get("AZURE_STORAGE_ACCOUNT_NAME")
    return Endpoint(f"https://{account}.blob.core.windows.net", "the connection's login") if account else None


def _s3_endpoint(options: Mapping[str, Any]) -> Endpoint:
    client = options.get("client_kwargs") or {}
    configured = options.get("endpoint_url") or client.get("endpoint_url")
    if configured:
        return Endpoint(str(configured), "the connection's extra")
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        if os.environ.get(name):
            return Endpoint(os.environ[name], name)
    region = client.get("region_name") or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return Endpoint(f"https://s3.{region or 'us-east-1'}.amazonaws.com", "the connection's extra, or AWS_REGION")
