"""Check that an artifact root can be reached, written, read, listed and cleaned."""

from __future__ import annotations

import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import TypeVar

import httpx

from airflow_zen.config.settings import Settings, storage_options
from airflow_zen.doctor.findings import Finding, FindingState, elapsed_text, failed, ok, warning
from airflow_zen.doctor.store_errors import Endpoint, diagnose, endpoint_of
from airflow_zen.errors import AlreadyExists, ZenError
from airflow_zen.transports.base import Transport, open_transport

T = TypeVar("T")

_PROBE = b"airflow_zen checks this store; this object may be deleted"
_LOW_DISK_SPACE = 2 * 1024**3
_OPERATION_TIMEOUT, _PROBE_TIMEOUT = 30.0, 5.0
# S3 refuses requests whose date is 15 minutes off.
_MAX_CLOCK_SKEW, _WARN_CLOCK_SKEW = 900.0, 60.0


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
    if abs(skew) >= _MAX_CLOCK_SKEW:
        yield failed("clock", detail, remedy)
    elif abs(skew) >= _WARN_CLOCK_SKEW:
        yield warning("clock", detail, remedy)
    else:
        yield ok("clock", "agrees with the store's")


def _check_free_space(root: str) -> Iterator[Finding]:
    with suppress(OSError):
        free = shutil.disk_usage(root).free
        detail = f"{free / 1024**3:.1f} GiB free"
        enough = free > _LOW_DISK_SPACE
        yield ok("store room", detail) if enough else warning("store room", detail, "Free space on that disk.")


def _check_operations(transport: Transport, settings: Settings) -> Iterator[Finding]:
    """Use one key, and always delete it again."""
    key = f"probe/{uuid.uuid4().hex}"
    steps: list[tuple[str, Callable[[], Finding]]] = [
        ("write", lambda: ok("store write", elapsed_text(lambda: transport.write(key, _PROBE)))),
        ("read", lambda: _check_read(transport, key)),
        ("list", lambda: _check_list(transport, key)),
        ("byte ranges", lambda: _check_byte_ranges(transport, key)),
        ("conditional create", lambda: _check_conditional_create(transport, key)),
        ("delete", lambda: _check_delete(transport, key)),
    ]
    written = False
    for name, step in steps:
        try:
            yield _run_with_timeout(_OPERATION_TIMEOUT, step)
            written = True
        except Exception as error:  # noqa: BLE001 - any error of the store's library is a finding
            yield failed(f"store {name}", *diagnose(error, settings))
            if not written:
                return
    with suppress(Exception):
        transport.delete([key])


def _check_read(transport: Transport, key: str) -> Finding:
    took = elapsed_text(lambda: transport.read(key))
    if transport.read(key) != _PROBE:
        return failed("store read", "the bytes differ from those that were written", "Use another store.")
    return ok("store read", took)


def _check_list(transport: Transport, key: str) -> Finding:
    if key not in list(transport.list(key.rpartition("/")[0])):
        return failed("store list", "a new object is not listed", "Use a store with consistent listing.")
    return ok("store list", "a new object is listed at once")


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
    took = elapsed_text(lambda: transport.delete([key]))
    if transport.exists(key):
        return failed("store delete", "the deleted object still exists", "Allow the key to delete objects.")
    return ok("store delete", took)


def _run_with_timeout(seconds: float, work: Callable[[], T]) -> T:
    """Return the result of `work`, called in a thread; raise its error, or `TimeoutError` after `seconds`."""
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised again by `result`
            done.set_exception(error)

    # A daemon thread, unlike those of an executor, does not keep the process alive.
    threading.Thread(target=run, name="airflow-zen-check", daemon=True).start()
    try:
        return done.result(seconds)
    except TimeoutError as error:
        raise error if done.done() else TimeoutError(f"no answer within {seconds:g} s") from error
