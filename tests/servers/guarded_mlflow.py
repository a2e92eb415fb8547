"""A real MLflow with users, where everyone but the administrator may only read what others have made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.servers.mlflow_server import MlflowServer, mlflow_server

ADMIN = "admin"
PASSWORD = "a-long-password-1"


@contextmanager
def guarded_mlflow(directory: Path, tls: tuple[str, str] | None = None) -> Iterator[MlflowServer]:
    """Run the server; `ADMIN` has `PASSWORD`."""
    config = directory / "basic_auth.ini"
    config.write_text(
        f"[mlflow]\ndefault_permission = READ\nadmin_username = {ADMIN}\nadmin_password = {PASSWORD}\n"
        f"database_uri = sqlite:///{directory}/auth.db\n"
        # Otherwise the server hashes the password for every request.
        "auth_cache_ttl_seconds = 3600\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_AUTH_ADMIN_PASSWORD", PASSWORD)
        patch.setenv("MLFLOW_FLASK_SERVER_SECRET_KEY", "secret")
        patch.setenv("MLFLOW_AUTH_CONFIG_PATH", str(config))
        with mlflow_server(directory / "mlflow", options=("--app-name", "basic-auth"), tls=tls) as server:
            yield server
