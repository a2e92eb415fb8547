"""The address at which a remote artifact root is served, asked without any of the store's own clients."""

from __future__ import annotations

import http.client
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

_PROBE_TIMEOUT = 5.0
_BLOB_ENDPOINT = re.compile(r"(?:^|;)\s*BlobEndpoint\s*=\s*([^;]+)", re.IGNORECASE)


@dataclass(frozen=True)
class ProbeResult:
    """That it answered: after how many seconds, and when it thought that was, in seconds since the epoch."""

    seconds: float
    date: float | None


@dataclass(frozen=True)
class Endpoint:
    """A store's address, and where it is configured."""

    url: str
    source: str

    def probe(self) -> ProbeResult:
        """Send one request without credentials; any answer will do. Raises `OSError` where there is none."""
        parts = urlsplit(self.url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=_PROBE_TIMEOUT)
        begun = time.perf_counter()
        try:
            connection.request("HEAD", "/")
            response = connection.getresponse()
            return ProbeResult(time.perf_counter() - begun, _parse_http_date(response.getheader("Date")))
        except http.client.HTTPException as error:
            raise ConnectionError(f"no HTTP server answers there ({error!r})") from error
        finally:
            connection.close()


def endpoint_of(root: str, options: Mapping[str, Any]) -> Endpoint | None:
    """Find the address that a root's client will ask; None for a local root, a scheme nobody knows, or behind a proxy."""
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


def _parse_http_date(date: str | None) -> float | None:
    try:
        return parsedate_to_datetime(date or "").timestamp()
    except ValueError:
        return None
