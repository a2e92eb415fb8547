"""The settings of a stack, and the `Stack` that they and Airflow connections describe."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_zen.artifacts.store import ArtifactStore
from airflow_zen.caching.step_cache import StepCache
from airflow_zen.config.options import (
    CONFIG_SECTION,
    DEFAULT_STACK,
    Options,
    default_artifact_root,
    find_options,
    load_stacks_file,
    stack_names,
)
from airflow_zen.errors import LineageError, SettingsError, StepDefinitionError
from airflow_zen.lineage.recorder import LineageRecorder, NullRecorder
from airflow_zen.materializers.registry import default_registry
from airflow_zen.progress import BytesCallback, ignore_bytes
from airflow_zen.runs.journal import RunJournals
from airflow_zen.runs.records import StepRunRecords
from airflow_zen.runs.redaction import Redactor
from airflow_zen.stack import Stack
from airflow_zen.steps.spec import StackSpec, StorageConnection
from airflow_zen.steps.step import FOLLOW_SETTINGS, Cache
from airflow_zen.transports import open_transport
from airflow_zen.transports.base import Transport, normalize_root

if TYPE_CHECKING:
    from airflow_zen.lineage.mlflow.server import TrackingServer

log = logging.getLogger("airflow_zen.config.settings")

_SOURCE_NAMES = {
    "env var": "environment",
    "provider-metadata-fallback-defaults": "default",
    "cmd": "command",
    "secret": "secrets backend",
}


class Settings(msgspec.Struct, frozen=True):
    """The options of one stack, validated; see `Options` for where they come from."""

    artifact_root: str
    stack: str = DEFAULT_STACK
    artifact_conn_id: str = ""
    mlflow_tracking_uri: str = ""
    mlflow_conn_id: str = ""
    lineage_trace: bool = True
    respect_set_experiment: bool = False
    cache: bool = True
    cache_defaults: Cache = FOLLOW_SETTINGS
    allow_pickle: bool = False
    previews: bool = True
    sync_to_disk: bool = True
    local_cache_dir: str = ""
    local_cache_size: int = 10 * 1024**3
    runtime: str = ""

    @classmethod
    def read(cls, stack: str | None = None) -> Settings:
        """Read the settings of a stack, by default of the active one; of the step's stack where its code runs elsewhere.

        Raises `SettingsError` for an invalid option and for an unknown stack.
        """
        if (of_step := StackSpec.of_process(os.environ)) is not None:
            return _settings_of_step(of_step, stack)
        options = find_options(stack)
        # A server from the environment belongs to the default stack: a named one would write into another's MLflow.
        fallback_uri = os.environ.get("MLFLOW_TRACKING_URI", "") if options.stack == DEFAULT_STACK else ""
        return cls(
            artifact_root=normalize_root(options.text("artifact_root") or default_artifact_root()),
            stack=options.stack,
            artifact_conn_id=options.text("artifact_conn_id"),
            mlflow_tracking_uri=options.text("mlflow_tracking_uri") or fallback_uri,
            mlflow_conn_id=options.text("mlflow_conn_id"),
            lineage_trace=options.flag("lineage_trace", default=True),
            respect_set_experiment=options.flag("respect_set_experiment", default=False),
            cache=options.flag("cache", default=True),
            cache_defaults=_read_cache_defaults(options),
            allow_pickle=options.flag("allow_pickle", default=False),
            previews=options.flag("previews", default=True),
            sync_to_disk=options.flag("sync_to_disk", default=True),
            local_cache_dir=options.text("local_cache_dir"),
            local_cache_size=options.size("local_cache_size", default="10G"),
            runtime=options.text("runtime"),
        )

    def qualified_option(self, option: str) -> str:
        """Return the name of an option and of its stack, for an error."""
        return f"[zen] {option}" if self.stack == DEFAULT_STACK else f"{option} of stack {self.stack!r}"


def open_stack(
    settings: Settings | None = None, *, lineage: bool = True, on_bytes: BytesCallback = ignore_bytes
) -> Stack:
    """Build a stack in the process that uses it, by default the active one.

    lineage: whether step runs are recorded in MLflow. on_bytes: called with the bytes that are read from the store and
    written there.
    """
    if (of_step := StackSpec.of_process(os.environ)) is not None:
        return _open_stack_of_step(of_step, lineage=lineage)
    settings = settings or Settings.read()
    root, connection = settings.artifact_root, artifact_connection(settings)
    options = _fsspec_options(connection)
    transport, cache = open_transport(root, options, on_bytes, sync_to_disk=settings.sync_to_disk), None
    if settings.local_cache_dir and "://" in settings.artifact_root:
        from airflow_zen.transports.read_cache import ReadCache

        cache = ReadCache(Path(settings.local_cache_dir).expanduser().absolute(), settings.local_cache_size)
    redactor = airflow_redactor()
    return Stack(
        store=ArtifactStore(settings.artifact_root, transport, cache),
        materializers=default_registry(allow_pickle=settings.allow_pickle),
        cache=StepCache(transport),
        records=StepRunRecords(transport, redactor),
        lineage=_open_recorder(settings, transport, redactor) if lineage else NullRecorder(),
        previews=settings.previews,
        redactor=redactor,
        storage_environment=StorageConnection.from_connection(connection).environment() if connection else {},
    )


def _settings_of_step(of_step: StackSpec, stack: str | None) -> Settings:
    if stack is not None:
        raise SettingsError(
            f"The process of this step reaches the artifact root of the step's own stack, and not stack {stack!r} by its name. "
            "Leave stack= out, or load the value in a task before the step and pass it as an argument."
        )
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    return Settings(of_step.root, mlflow_tracking_uri=uri, allow_pickle=of_step.allow_pickle)


def _open_stack_of_step(of_step: StackSpec, *, lineage: bool) -> Stack:
    if lineage:
        raise SettingsError(
            "The process of this step does not have Airflow's configuration, which this needs. Do it in a task whose "
            "function runs in the process of the task: @ml_step(runtime=InProcess())."
        )
    return of_step.open(os.environ)


def airflow_redactor() -> Redactor:
    """Return the redactor that also removes what Airflow masks: values of connections, variables, `mask_secret`."""
    from airflow.configuration import conf
    from airflow.providers.common.compat.sdk import redact

    names = conf.get("core", "sensitive_var_conn_names", fallback="") or ""
    return Redactor(
        lambda text: str(redact(text)), tuple(part.strip().lower() for part in names.split(",") if part.strip())
    )


def effective_options(options: Options) -> Iterator[tuple[str, str, str]]:
    """Yield name, value and source of every option of `[zen]` as a stack has it; no value contains a secret."""
    from airflow.configuration import conf

    from airflow_zen.get_provider_info import get_provider_info

    redactor = airflow_redactor()
    in_airflow_cfg = conf.as_dict(display_source=True, display_sensitive=True, raw=False)
    configured: dict[str, Any] = dict(in_airflow_cfg.get(CONFIG_SECTION, {}))
    for option in get_provider_info()["config"][CONFIG_SECTION]["options"]:
        if options.is_stack_specific(option):
            value, source = options.text(option), str(load_stacks_file().path) if option in options.overrides else ""
        else:
            value, source = configured.get(option, ("", "default"))
            value, source = str(value or ""), _SOURCE_NAMES.get(source, source)
            if not value and options.stack == DEFAULT_STACK:
                value, source = _default_values().get(option, (value, source))
        yield option, redactor.text(value), source


def _default_values() -> dict[str, tuple[str, str]]:
    """Return value and source of the options of the default stack that have a value without being set."""
    found = {"artifact_root": (default_artifact_root(), "default")}
    if uri := os.environ.get("MLFLOW_TRACKING_URI"):
        found["mlflow_tracking_uri"] = uri, "MLFLOW_TRACKING_URI"
    return found


def storage_options(settings: Settings) -> Mapping[str, Any]:
    """Return fsspec's options for the artifact root, from its connection; empty where none is configured."""
    return _fsspec_options(artifact_connection(settings))


def _fsspec_options(connection: Any) -> Mapping[str, Any]:
    if connection is None:
        return {}
    from airflow_zen.transports.credentials import fsspec_options

    return fsspec_options(connection)


def artifact_connection(settings: Settings) -> Any:
    """Return the Airflow connection of the artifact root; None where none is configured."""
    return _get_connection(settings, "artifact_conn_id") if settings.artifact_conn_id else None


def tracking_server(settings: Settings) -> TrackingServer | None:
    """Return the MLflow server of a stack; None where none is configured."""
    if not (settings.mlflow_conn_id or settings.mlflow_tracking_uri):
        return None
    from airflow_zen.lineage.mlflow.server import TrackingServer

    if settings.mlflow_conn_id:
        return TrackingServer.from_connection(_get_connection(settings, "mlflow_conn_id"))
    return TrackingServer.from_environment(settings.mlflow_tracking_uri, os.environ)


def all_settings() -> Iterator[Settings]:
    """Yield the settings of every stack; a stack with invalid options is logged and left out."""
    if StackSpec.of_process(os.environ) is not None:
        yield Settings.read()
        return
    for name in stack_names(load_stacks_file()):
        try:
            yield Settings.read(name)
        except SettingsError as error:
            log.warning("Stack %r cannot be used: %s", name, error)


def settings_of_uri(uri: str) -> Settings | None:
    """Return the settings of the stack that contains an address, the innermost of several; None where there is none."""
    candidates = [settings for settings in all_settings() if uri.startswith(f"{settings.artifact_root}/artifacts/")]
    return max(candidates, key=lambda settings: len(settings.artifact_root), default=None)


def _read_cache_defaults(options: Options) -> Cache:
    ttl, scope = options.text("cache_ttl"), options.text("cache_scope")
    packages = options.flag("cache_packages", default=True)
    try:
        return Cache(ttl=float(ttl) if ttl else None, packages=packages, scope=scope or "shared")
    except (ValueError, StepDefinitionError) as error:
        raise SettingsError(f"{options.qualified_option('cache_ttl')} and cache_scope: {error}") from error


def _open_recorder(settings: Settings, transport: Transport, redactor: Redactor) -> LineageRecorder:
    """Return the recorder. An unusable tracking server is logged, because no step fails for lack of lineage."""
    try:
        server = tracking_server(settings)
        if server is not None:
            from airflow_zen.lineage.mlflow.recorder import MlflowRecorder
            from airflow_zen.lineage.mlflow.rest import MlflowRest

            flags = settings.lineage_trace, settings.respect_set_experiment
            return MlflowRecorder(MlflowRest(server), transport, settings.artifact_root, *flags, redactor)
    except (LineageError, SettingsError) as error:
        log.warning("Lineage is kept in the artifact root only: %s", error)
        return NullRecorder(RunJournals(transport), redactor)
    log.info(
        "MLflow is not configured ([zen] mlflow_conn_id or mlflow_tracking_uri): lineage is kept in %s only.",
        settings.artifact_root,
    )
    return NullRecorder(RunJournals(transport), redactor)


def _get_connection(settings: Settings, option: str) -> Any:
    from airflow.sdk import BaseHook

    conn_id = getattr(settings, option)
    try:
        return BaseHook.get_connection(conn_id)
    except Exception as error:
        name = settings.qualified_option(option)
        raise SettingsError(f"{name} names connection {conn_id!r}, which cannot be read: {error}") from error
