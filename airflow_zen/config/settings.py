"""A stack's options and Airflow connections, read once and turned into a `Stack`."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from airflow_zen.artifacts.store import ArtifactStore
from airflow_zen.caching.policy import FOLLOW_SETTINGS, Cache
from airflow_zen.caching.step_cache import StepCache
from airflow_zen.config.options import Options, default_artifact_root, find_options, load_stacks_file, stack_names
from airflow_zen.config.stacks_file import DEFAULT_STACK
from airflow_zen.errors import LineageError, SettingsError, StepDefinitionError
from airflow_zen.lineage.mlflow.recorder import MlflowRecorder
from airflow_zen.lineage.mlflow.rest import MlflowRest
from airflow_zen.lineage.mlflow.server import TrackingServer
from airflow_zen.lineage.recorder import LineageRecorder, NullRecorder
from airflow_zen.materializers.registry import default_registry
from airflow_zen.progress import BytesCallback, ignore_bytes
from airflow_zen.runs.records import StepRunRecords
from airflow_zen.stack import Stack
from airflow_zen.transports.base import Transport, normalize_root, open_transport
from airflow_zen.transports.read_cache import ReadCache

log = logging.getLogger("airflow_zen.config.settings")


class Settings(msgspec.Struct, frozen=True):
    """The choices of one stack, as `[zen]` of airflow.cfg, `AIRFLOW__ZEN__*` or `stacks.yaml` give them."""

    artifact_root: str
    stack: str = DEFAULT_STACK
    artifact_conn_id: str = ""
    mlflow_tracking_uri: str = ""
    mlflow_conn_id: str = ""
    lineage_trace: bool = True
    cache: bool = True
    cache_defaults: Cache = FOLLOW_SETTINGS
    allow_pickle: bool = False
    previews: bool = True
    local_cache_dir: str = ""
    local_cache_size: int = 10 * 1024**3

    @classmethod
    def read(cls, stack: str | None = None) -> Settings:
        """Read the options of a stack, of the active one where none is named.

        Raises `SettingsError` naming the option that cannot be used, or the stacks that there are.
        """
        options = find_options(stack)
        is_default_stack = options.stack == DEFAULT_STACK
        return cls(
            artifact_root=normalize_root(options.text("artifact_root") or default_artifact_root()),
            stack=options.stack,
            artifact_conn_id=options.text("artifact_conn_id"),
            mlflow_tracking_uri=options.text("mlflow_tracking_uri")
            or (_mlflow_uri_from_environment() if is_default_stack else ""),
            mlflow_conn_id=options.text("mlflow_conn_id"),
            lineage_trace=options.flag("lineage_trace", default=True),
            cache=options.flag("cache", default=True),
            cache_defaults=_read_cache_defaults(options),
            allow_pickle=options.flag("allow_pickle", default=False),
            previews=options.flag("previews", default=True),
            local_cache_dir=options.text("local_cache_dir"),
            local_cache_size=options.size("local_cache_size", default="10G"),
        )

    def qualified_option(self, option: str) -> str:
        """Name an option of this stack in an error."""
        return f"[zen] {option}" if self.stack == DEFAULT_STACK else f"{option} of stack {self.stack!r}"


def open_stack(
    settings: Settings | None = None, *, lineage: bool = True, on_bytes: BytesCallback = ignore_bytes
) -> Stack:
    """Build the stack of this deployment, in the process that will use it; without `lineage` for who records none.

    `on_bytes` is told of the bytes that come from the store and go there.
    """
    settings = settings or Settings.read()
    transport = open_transport(settings.artifact_root, storage_options(settings), on_bytes)
    return Stack(
        store=ArtifactStore(settings.artifact_root, transport, _open_local_cache(settings)),
        materializers=default_registry(allow_pickle=settings.allow_pickle),
        cache=StepCache(transport),
        records=StepRunRecords(transport),
        lineage=_open_recorder(settings, transport) if lineage else NullRecorder(),
        previews=settings.previews,
    )


def _open_local_cache(settings: Settings) -> ReadCache | None:
    if not settings.local_cache_dir or "://" not in settings.artifact_root:
        return None
    return ReadCache(Path(settings.local_cache_dir).expanduser().absolute(), settings.local_cache_size)


def storage_options(settings: Settings) -> Mapping[str, Any]:
    """Give fsspec's options for the artifact root, from its connection; empty where none is named."""
    if not settings.artifact_conn_id:
        return {}
    from airflow_zen.hooks.storage import fsspec_options

    return fsspec_options(_get_connection(settings.artifact_conn_id, settings.qualified_option("artifact_conn_id")))


def tracking_server(settings: Settings) -> TrackingServer | None:
    """Give the MLflow server of this deployment; None where none is configured."""
    if settings.mlflow_conn_id:
        from airflow_zen.hooks.mlflow import tracking_server_from_connection

        return tracking_server_from_connection(
            _get_connection(settings.mlflow_conn_id, settings.qualified_option("mlflow_conn_id"))
        )
    if settings.mlflow_tracking_uri:
        return TrackingServer.from_environment(settings.mlflow_tracking_uri, os.environ)
    return None


def _open_recorder(settings: Settings, transport: Transport) -> LineageRecorder:
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


def _get_connection(conn_id: str, option: str) -> Any:
    from airflow.sdk import BaseHook

    try:
        return BaseHook.get_connection(conn_id)
    except Exception as error:
        raise SettingsError(f"{option} names connection {conn_id!r}, which cannot be read: {error}") from error


def _mlflow_uri_from_environment() -> str:
    return os.environ.get("MLFLOW_TRACKING_URI", "")


def _read_cache_defaults(options: Options) -> Cache:
    ttl, scope = options.text("cache_ttl"), options.text("cache_scope")
    try:
        return Cache(
            ttl=float(ttl) if ttl else None,
            packages=options.flag("cache_packages", default=True),
            scope=scope or None,
        )
    except (ValueError, StepDefinitionError) as error:
        raise SettingsError(f"{options.qualified_option('cache_ttl')} and cache_scope: {error}") from error


def all_settings() -> Iterator[Settings]:
    """Give the settings of every stack that is defined; one that cannot be used is told in the log and left out."""
    for name in stack_names(load_stacks_file()):
        try:
            yield Settings.read(name)
        except SettingsError as error:
            log.warning("Stack %r cannot be used: %s", name, error)


def settings_of_uri(uri: str) -> Settings | None:
    """Give the settings of the stack under whose root an address lies, the innermost of several; None where nobody knows."""
    candidates = [settings for settings in all_settings() if uri.startswith(f"{settings.artifact_root}/artifacts/")]
    return max(candidates, key=lambda settings: len(settings.artifact_root), default=None)
