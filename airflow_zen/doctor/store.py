"""Check an artifact root, and explain the errors of its store."""

from __future__ import annotations

import os
import re
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import httpx

from airflow_zen.config.settings import Settings, storage_options
from airflow_zen.doctor.findings import Finding, FindingState, elapsed_text, failed, ok, ok_if, warning
from airflow_zen.errors import AlreadyExists, StoreUnavailable, ZenError
from airflow_zen.transports import open_transport
from airflow_zen.transports.base import Transport

T = TypeVar("T")

_PROBE = b"airflow_zen checks this store; this object may be deleted"
_LOW_DISK_SPACE = 2 * 1024**3
_OPERATION_TIMEOUT, _PROBE_TIMEOUT = 30.0, 5.0
# S3 refuses requests whose date is 15 minutes off.
_MAX_CLOCK_SKEW, _WARN_CLOCK_SKEW = 900.0, 60.0


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


def store_findings(settings: Settings, clock: Callable[[], float] = time.time) -> Iterator[Finding]:
    """Check a stack's artifact root, each operation after those it needs; nothing is left in the store.

    clock: returns seconds since the epoch, to compare with the store's time.
    """
    try:
        options = storage_options(settings)
        # The store's client would retry for minutes.
        if endpoint := endpoint_of(settings.artifact_root, options):
            findings = [*_check_reachability(endpoint, clock)]
            yield from findings
            if findings[0].state is FindingState.FAILED:
                return
        transport = open_transport(settings.artifact_root, options)
    except (ZenError, ImportError, ValueError) as error:
        yield failed("store opens", settings.artifact_root, str(error))
        return
    yield ok("store opens", f"{settings.artifact_root} through {type(transport).__name__}")
    if "://" not in settings.artifact_root:
        yield from _check_free_space(settings.artifact_root)
    yield from _check_operations(transport, settings)


def _check_reachability(endpoint: Endpoint, clock: Callable[[], float]) -> Iterator[Finding]:
    """Send one request without credentials, accept any answer, and compare the clocks."""
    try:
        answer = httpx.head(endpoint.url, timeout=_PROBE_TIMEOUT, trust_env=False)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        remedy = (
            f"Correct the endpoint or region in {endpoint.source}, or start the store. Check proxies and firewalls."
        )
        yield failed("store answers", f"{endpoint.url}: {error!r}", remedy)
        return
    yield ok("store answers", f"{endpoint.url} in {answer.elapsed.total_seconds() * 1000:.0f} ms")
    try:
        skew = clock() - parsedate_to_datetime(answer.headers.get("Date", "")).timestamp()
    except ValueError:
        return
    detail = f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the store's"
    remedy = "Set this machine's clock (chrony or systemd-timesyncd); S3 refuses requests that are 15 minutes off."
    state = FindingState.FAILED if abs(skew) >= _MAX_CLOCK_SKEW else FindingState.WARNING
    yield ok_if("clock", "agrees with the store's", abs(skew) < _WARN_CLOCK_SKEW, detail, remedy, state)


def _check_free_space(root: str) -> Iterator[Finding]:
    with suppress(OSError):
        free = shutil.disk_usage(root).free
        detail = f"{free / 1024**3:.1f} GiB free"
        is_enough, remedy = free > _LOW_DISK_SPACE, "Free space on that disk."
        yield ok_if("store room", detail, is_enough, detail, remedy, FindingState.WARNING)


def _check_operations(transport: Transport, settings: Settings) -> Iterator[Finding]:
    """Use one key, and always delete it again."""
    key = f"probe/{uuid.uuid4().hex}"
    written = False
    for name, operation in _OPERATIONS.items():
        try:
            yield _run_with_timeout(_OPERATION_TIMEOUT, operation, transport, key)
            written = True
        except Exception as error:  # noqa: BLE001 - any error of the store's library is a finding
            yield failed(f"store {name}", *diagnose(error, settings))
            if not written:
                return
    with suppress(Exception):
        transport.delete([key])


def _check_read(transport: Transport, key: str) -> Finding:
    took, is_equal = elapsed_text(lambda: transport.read(key)), transport.read(key) == _PROBE
    return ok_if("store read", took, is_equal, "the bytes differ from those that were written", "Use another store.")


def _check_list(transport: Transport, key: str) -> Finding:
    is_listed, remedy = key in transport.list(key.rpartition("/")[0]), "Use a store with consistent listing."
    return ok_if("store list", "a new object is listed at once", is_listed, "a new object is not listed", remedy)


def _check_byte_ranges(transport: Transport, key: str) -> Finding:
    check = "store byte ranges"
    remedy = "Reading a part of a table downloads all of it, or fails: use another store for large tables."
    try:
        part = transport.read_range(key, 3, 9)
    except Exception as error:  # noqa: BLE001 - each client has its own error for an answer with the whole object
        return warning(check, f"refused: {str(error).splitlines()[0][:120]}", remedy)
    return ok(check, "supported") if part == _PROBE[3:9] else warning(check, "the whole object was returned", remedy)


def _check_conditional_create(transport: Transport, key: str) -> Finding:
    check = "store conditional create"
    try:
        transport.create(key, _PROBE)
    except AlreadyExists:
        return ok(check, "refused a second writer: one of several equal concurrent steps computes")
    return warning(
        check,
        "allowed a second writer: all equal concurrent steps compute",
        "Results stay correct. To compute once, use a store that supports 'If-None-Match: *'.",
    )


def _check_delete(transport: Transport, key: str) -> Finding:
    took, is_deleted = elapsed_text(lambda: transport.delete([key])), not transport.exists(key)
    return ok_if(
        "store delete", took, is_deleted, "the deleted object still exists", "Allow the key to delete objects."
    )


_OPERATIONS: dict[str, Callable[[Transport, str], Finding]] = {
    "write": lambda transport, key: ok("store write", elapsed_text(lambda: transport.write(key, _PROBE))),
    "read": _check_read,
    "list": _check_list,
    "byte ranges": _check_byte_ranges,
    "conditional create": _check_conditional_create,
    "delete": _check_delete,
}


def _run_with_timeout(seconds: float, work: Callable[..., T], *arguments: Any) -> T:
    """Return the result of `work`, called in a thread; raise its error, or `TimeoutError` after `seconds`."""
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(work(*arguments))
        except BaseException as error:  # noqa: BLE001 - raised again by `result`
            done.set_exception(error)

    # A daemon thread, unlike those of an executor, does not keep the process alive.
    threading.Thread(target=run, name="airflow-zen-check", daemon=True).start()
    try:
        return done.result(seconds)
    except TimeoutError as error:
        raise error if done.done() else TimeoutError(f"no answer within {seconds:g} s") from error


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
    region = client.get("region_name") or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    candidates = (
        Endpoint(str(options.get("endpoint_url") or client.get("endpoint_url") or ""), "the connection's extra"),
        *(Endpoint(os.environ.get(name, ""), name) for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")),
        Endpoint(f"https://s3.{region or 'us-east-1'}.amazonaws.com", "the connection's extra, or AWS_REGION"),
    )
    return next(endpoint for endpoint in candidates if endpoint.url)
