"""Look whether an artifact root can be used: reached, written, read, listed and emptied again."""

from __future__ import annotations

import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, TypeVar

from airflow_zen.config.settings import Settings, storage_options
from airflow_zen.doctor.findings import Finding, elapsed_text, failed, ok, warning
from airflow_zen.doctor.store_errors import Endpoint, diagnose, endpoint_of
from airflow_zen.errors import AlreadyExists, ZenError
from airflow_zen.transports.base import Transport, open_transport

T = TypeVar("T")

_PROBE = b"airflow_zen looks whether this store works; it may be deleted"
_LOW_DISK_SPACE = 2 * 1024**3
_OPERATION_TIMEOUT = 30.0
# S3 refuses requests that are dated 15 minutes off.
_MAX_CLOCK_SKEW, _WARN_CLOCK_SKEW = 900.0, 60.0


def store_findings(settings: Settings, clock: Callable[[], float] = time.time) -> Iterator[Finding]:
    """Check a stack's artifact root, each part after the one it needs; nothing is left in the store.

    clock: seconds since the epoch, to hold against the store's.
    """
    try:
        options = storage_options(settings)
        endpoint = endpoint_of(settings.artifact_root, options)
        if endpoint:
            yield from _check_reachability(endpoint, clock)
        transport = open_transport(settings.artifact_root, options)
    except _Unreachable as error:
        yield error.finding
        return
    except (ZenError, ImportError, ValueError) as error:
        yield failed("store opens", settings.artifact_root, str(error))
        return
    yield ok("store opens", f"{settings.artifact_root} through {type(transport).__name__}")
    if "://" not in settings.artifact_root:
        yield from _check_free_space(settings.artifact_root)
    yield from _check_operations(transport, settings)


class _Unreachable(Exception):
    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.detail)
        self.finding = finding


def _check_reachability(endpoint: Endpoint, clock: Callable[[], float]) -> Iterator[Finding]:
    """Ask the store's address for anything at all, before a client that tries again and again for minutes does."""
    check = "store answers"
    try:
        result = endpoint.probe()
    except OSError as error:
        remedy = (
            f"Correct the endpoint or region in {endpoint.source}, or start the store; see proxies and firewalls too."
        )
        raise _Unreachable(failed(check, f"{endpoint.url}: {error}", remedy)) from error
    yield ok(check, f"{endpoint.url} in {result.seconds * 1000:.0f} ms")
    if result.date is None:
        return
    skew = clock() - result.date
    detail = f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the store's"
    remedy = "Set this machine's clock (chrony or systemd-timesyncd); S3 refuses what is 15 minutes off."
    if abs(skew) >= _MAX_CLOCK_SKEW:
        yield failed("clock", detail, remedy)
    else:
        yield (
            warning("clock", detail, remedy)
            if abs(skew) >= _WARN_CLOCK_SKEW
            else ok("clock", "agrees with the store's")
        )


def _check_free_space(root: str) -> Iterator[Finding]:
    with suppress(OSError):
        free = shutil.disk_usage(root).free
        detail = f"{free / 1024**3:.1f} GiB free"
        yield (
            ok("store room", detail)
            if free > _LOW_DISK_SPACE
            else warning("store room", detail, "Make room on that disk.")
        )


def _check_operations(transport: Transport, settings: Settings) -> Iterator[Finding]:
    """Use a key of our own, and take it away again whatever happens."""
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
        except Exception as error:  # noqa: BLE001 - whatever the store's library raises is what is to be told
            yield failed(f"store {name}", *diagnose(error, settings))
            if not written:
                return
    with suppress(Exception):
        transport.delete([key])


def _check_read(transport: Transport, key: str) -> Finding:
    took = elapsed_text(lambda: transport.read(key))
    if transport.read(key) != _PROBE:
        return failed("store read", "other bytes came back than were written", "Use another store.")
    return ok("store read", took)


def _check_list(transport: Transport, key: str) -> Finding:
    if key not in list(transport.list(key.rpartition("/")[0])):
        return failed("store list", "what was just written is not listed", "Use a store that lists what it holds.")
    return ok("store list", "what was written is listed at once")


def _check_byte_ranges(transport: Transport, key: str) -> Finding:
    check = "store byte ranges"
    remedy = "Tables are read whole where a part would do, or not at all: use another store for large tables."
    try:
        part = transport.read_range(key, 3, 9)
    except Exception as error:  # noqa: BLE001 - a store that answers a range with all of it is refused by each client
        return warning(check, f"refused: {str(error).splitlines()[0][:120]}", remedy)
    return ok(check, "honoured") if part == _PROBE[3:9] else warning(check, "the whole object came", remedy)


def _check_conditional_create(transport: Transport, key: str) -> Finding:
    check = "store conditional create"
    try:
        transport.create(key, _PROBE)
    except AlreadyExists:
        return ok(check, "refused a second writer: of equal steps that start together one computes")
    return warning(
        check,
        "let a second writer overwrite: equal steps that start together are all computed",
        "Results stay right. To have one of them compute, use a store that honours 'If-None-Match: *'.",
    )


def _check_delete(transport: Transport, key: str) -> Finding:
    took = elapsed_text(lambda: transport.delete([key]))
    if transport.exists(key):
        return failed("store delete", "what was deleted is still there", "Allow the key to delete objects.")
    return ok("store delete", took)


def _run_with_timeout(seconds: float, work: Callable[[], T]) -> T:
    """Do something in a thread that nobody waits for longer; raises what it raises, or `TimeoutError`."""
    done: dict[str, Any] = {}

    def run() -> None:
        try:
            done["result"] = work()
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            done["error"] = error

    thread = threading.Thread(target=run, name="airflow-zen-check", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError(f"no answer within {seconds:g} s")
    if "error" in done:
        raise done["error"]
    result: T = done["result"]
    return result
