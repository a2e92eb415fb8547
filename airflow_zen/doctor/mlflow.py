"""Check that a stack's MLflow can be reached, is supported, and allows what lineage needs."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import closing

from airflow_zen.config.settings import Settings, tracking_server
from airflow_zen.doctor.findings import Finding, failed, ok, warning
from airflow_zen.errors import ZenError
from airflow_zen.lineage.mlflow.errors import MlflowRejected
from airflow_zen.lineage.mlflow.rest import MlflowRest

# The first release with everything that lineage uses; setup.cfg requires the same of the client.
_MIN_VERSION = (3, 5)
_SLOW_SECONDS = 0.1


def mlflow_findings(settings: Settings) -> Iterator[Finding]:
    """Check a stack's tracking server; nothing is created in it."""
    try:
        server = tracking_server(settings)
    except ZenError as error:
        yield failed("mlflow", "cannot be configured", str(error))
        return
    if server is None:
        yield warning(
            "mlflow",
            "not configured: lineage is stored in the artifact root only",
            f"Set {settings.qualified_option('mlflow_conn_id')} or mlflow_tracking_uri.",
        )
        return
    try:
        with closing(MlflowRest(server)) as rest:
            yield _check_version(rest)
            yield from _check_requests(rest)
    except ZenError as error:
        yield failed("mlflow answers", server.uri, str(error))


def _check_version(rest: MlflowRest) -> Finding:
    version = rest.version()
    if not re.fullmatch(r"\d[\w.+-]{0,40}", version):
        return failed("mlflow version", f"{rest.server.uri} is not an MLflow server", "Correct the tracking URI.")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers and numbers < _MIN_VERSION:
        return failed("mlflow version", version, f"Upgrade the server to {'.'.join(map(str, _MIN_VERSION))} or later.")
    return ok("mlflow version", version)


def _check_requests(rest: MlflowRest) -> Iterator[Finding]:
    """Search experiments: unlike `/version`, this request is checked for its host name and its user."""
    begun = time.perf_counter()
    found = rest.post("experiments/search", {"max_results": 1}).get("experiments", [])
    seconds = time.perf_counter() - begun
    user = rest.server.username
    identity = f" as {user!r}" if user else " with a token" if rest.server.token else ""
    yield ok("mlflow answers", f"{rest.server.uri} in {seconds * 1000:.0f} ms{identity}")
    if seconds > _SLOW_SECONDS and user:
        yield warning(
            "mlflow speed",
            f"{seconds * 1000:.0f} ms for one request with a password",
            "Set auth_cache_ttl_seconds = 60 in the server's basic_auth.ini: without it the server hashes the password for every request.",
        )
    if found:
        yield _check_create_permission(rest, found[0]["name"])


def _check_create_permission(rest: MlflowRest, existing_name: str) -> Finding:
    """Create an experiment with a name that exists: a server that allows experiments refuses the name."""
    check = "mlflow permission"
    try:
        rest.post("experiments/create", {"name": existing_name})
    except MlflowRejected as error:
        if not error.already_exists:
            return failed(check, "may not create experiments", str(error))
    return ok(check, "may create experiments")
