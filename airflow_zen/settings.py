"""The `[zen]` section and Airflow connections, read once and turned into a `Stack`."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow.configuration import conf
from airflow.exceptions import AirflowConfigException

from airflow_zen.artifacts.local_cache import LocalCache
from airflow_zen.artifacts.root import normalise_root
from airflow_zen.artifacts.store import ArtifactStore
from airflow_zen.artifacts.transport import Transport, open_transport
from airflow_zen.caching.cache import StepCache
from airflow_zen.caching.policy import FOLLOW_SETTINGS, Cache
from airflow_zen.errors import LineageError, SettingsError, StepDefinitionError
from airflow_zen.lineage.mlflow import MlflowRecorder
from airflow_zen.lineage.recorder import LineageRecorder, NullRecorder
from airflow_zen.lineage.records import StepRunRecords
from airflow_zen.lineage.rest import MlflowRest
from airflow_zen.lineage.tracking_server import TrackingServer
from airflow_zen.materializers.registry import default_registry
from airflow_zen.stack import Stack

SECTION = "zen"

log = logging.getLogger("airflow_zen.settings")


@dataclass(frozen=True)
class Settings:
    """The deployment's choices, as `[zen]` of airflow.cfg and `AIRFLOW__ZEN__*` give them."""

    artifact_root: str
    artifact_conn_id: str = ""
    mlflow_tracking_uri: str = ""
    mlflow_conn_id: str = ""
    lineage_trace: bool = True
    cache: bool = True
    cache_defaults: Cache = FOLLOW_SETTINGS
    allow_pickle: bool = False
    local_cache_dir: str = ""
    local_cache_size: int = 10 * 1024**3

    @classmethod
    def read(cls) -> Settings:
        """Read the configuration; raises `SettingsError` naming the option that cannot be used."""
        return cls(
            artifact_root=normalise_root(_text("artifact_root") or _default_root()),
            artifact_conn_id=_text("artifact_conn_id"),
            mlflow_tracking_uri=_text("mlflow_tracking_uri") or os.environ.get("MLFLOW_TRACKING_URI", ""),
            mlflow_conn_id=_text("mlflow_conn_id"),
            lineage_trace=_flag("lineage_trace", default=True),
            cache=_flag("cache", default=True),
            cache_defaults=_cache_defaults(),
            allow_pickle=_flag("allow_pickle", default=False),
            local_cache_dir=_text("local_cache_dir"),
            local_cache_size=_size("local_cache_size", default="10G"),
        )


def open_stack(settings: Settings | None = None) -> Stack:
    """Build the stack of this deployment, in the process that will use it."""
    settings = settings or Settings.read()
    transport = open_transport(settings.artifact_root, storage_options(settings))
    return Stack(
        store=ArtifactStore(settings.artifact_root, transport, _local_cache(settings)),
        materializers=default_registry(allow_pickle=settings.allow_pickle),
        cache=StepCache(transport),
        records=StepRunRecords(transport),
        lineage=_recorder(settings, transport),
    )


def _local_cache(settings: Settings) -> LocalCache | None:
    if not settings.local_cache_dir or "://" not in settings.artifact_root:
        return None
    return LocalCache(Path(settings.local_cache_dir).expanduser().absolute(), settings.local_cache_size)


def storage_options(settings: Settings) -> Mapping[str, Any]:
    """Give fsspec's options for the artifact root, from its connection; empty where none is named."""
    if not settings.artifact_conn_id:
        return {}
    from airflow_zen.hooks.storage import options_of

    return options_of(_connection(settings.artifact_conn_id, "artifact_conn_id"))


def tracking_server(settings: Settings) -> TrackingServer | None:
    """Give the MLflow server of this deployment; None where none is configured."""
    if settings.mlflow_conn_id:
        from airflow_zen.hooks.mlflow import server_of

        return server_of(_connection(settings.mlflow_conn_id, "mlflow_conn_id"))
    if settings.mlflow_tracking_uri:
        return TrackingServer.from_environment(settings.mlflow_tracking_uri, os.environ)
    return None


def _recorder(settings: Settings, transport: Transport) -> LineageRecorder:
    """Choose the recorder; a tracking server that cannot be used is said, and costs no step its result."""
    try:
        server = tracking_server(settings)
        if server is not None:
            return MlflowRecorder(MlflowRest(server), transport, settings.artifact_root, settings.lineage_trace)
    except (LineageError, SettingsError) as error:
        log.warning("Lineage is kept in the artifact root only: %s", error)
        return NullRecorder()
    log.info(
        "MLflow is not configured ([zen] mlflow_conn_id or mlflow_tracking_uri): lineage is kept in %s only.",
        settings.artifact_root,
    )
    return NullRecorder()


def _connection(conn_id: str, option: str) -> Any:
    from airflow.sdk import BaseHook

    try:
        return BaseHook.get_connection(conn_id)
    except Exception as error:
        raise SettingsError(f"[zen] {option} names connection {conn_id!r}, which cannot be read: {error}") from error


def _default_root() -> str:
    return str(Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser() / "zen")


def _cache_defaults() -> Cache:
    ttl, scope = _text("cache_ttl"), _text("cache_scope")
    try:
        return Cache(
            ttl=float(ttl) if ttl else None,
            packages=_flag("cache_packages", default=True),
            scope=scope or None,
        )
    except (ValueError, StepDefinitionError) as error:
        raise SettingsError(f"[zen] cache_ttl and cache_scope: {error}") from error


def _text(option: str) -> str:
    return str(conf.get(SECTION, option, fallback="") or "").strip()


def _flag(option: str, *, default: bool) -> bool:
    try:
        return bool(conf.getboolean(SECTION, option, fallback=default))
    except (ValueError, AirflowConfigException) as error:
        raise SettingsError(f"[zen] {option} must be true or false: {error}") from error


def _size(option: str, *, default: str) -> int:
    """Read bytes, with K, M, G or T for powers of 1024."""
    text = (_text(option) or default).upper()
    digits, factor = (text[:-1], 1024 ** (1 + "KMGT".index(text[-1]))) if text[-1] in "KMGT" else (text, 1)
    if not digits.isdecimal():
        raise SettingsError(f"[zen] {option} must be bytes, such as '500M' or '10G', got {text!r}.")
    return int(digits) * factor
