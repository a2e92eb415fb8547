"""`airflow zen models …`: registered models in MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_zen.cli.command import ARG_STACK, STACK_AND_OUTPUT, argument, command
from airflow_zen.cli.output import print_rows
from airflow_zen.errors import SettingsError

if TYPE_CHECKING:
    from airflow_zen.lineage.mlflow.models import RegisteredModels


@command("models list", argument("name", "The model (default: all)", nargs="?"), *STACK_AND_OUTPUT)
def list_models(args: Any) -> None:
    """List the registered models, or the versions of one, with the metrics on their pages in MLflow."""
    registry = _open_registry(args)
    rows = _version_rows(registry, args.name) if args.name else _model_rows(registry)
    if not rows:
        missing = f"version of model {args.name!r}" if args.name else "registered model"
        raise SystemExit(f"MLflow has no {missing}.")
    print_rows(rows, args.output)


@command(
    "models promote",
    argument("name", "The registered model"),
    argument("version", "The version, a number"),
    argument("alias", "The alias, such as champion"),
    ARG_STACK,
)
def promote_model(args: Any) -> None:
    """Point an alias at a version of a model.

    A model or a version that does not exist is refused.
    """
    from airflow_zen.lineage.mlflow.errors import MlflowRejected

    try:
        before = _open_registry(args).promote(args.name, args.version, args.alias)
    except MlflowRejected as error:
        raise SystemExit(f"The alias was not set: {error}") from error
    moved = f", which pointed at version {before}" if before and before != args.version else ""
    print(f"models:/{args.name}@{args.alias} is version {args.version} now{moved}.")


def _open_registry(args: Any) -> RegisteredModels:
    from airflow_zen.config.settings import Settings, tracking_server
    from airflow_zen.lineage.mlflow.models import RegisteredModels
    from airflow_zen.lineage.mlflow.rest import MlflowRest

    settings = Settings.read(args.stack)
    if server := tracking_server(settings):
        return RegisteredModels(MlflowRest(server))
    option = settings.qualified_option("mlflow_conn_id")
    raise SettingsError(f"MLflow is not configured: set {option} or mlflow_tracking_uri.")


def _model_rows(registry: RegisteredModels) -> list[dict[str, Any]]:
    models = [*registry.models()]
    latest: list[Mapping[str, Any]] = [
        max(model.get("latest_versions", []), key=lambda version: int(version["version"]), default={})
        for model in models
    ]
    return [
        {
            "model": model["name"],
            "latest": int(version["version"]) if version else "",
            "aliases": ", ".join(sorted(f"{a['alias']} → {a['version']}" for a in model.get("aliases", []))),
            "metrics": _metrics_text(metrics),
            "changed": _mlflow_time(model.get("last_updated_timestamp")),
            "description": model.get("description", ""),
        }
        for model, version, metrics in zip(models, latest, registry.metrics(latest), strict=True)
    ]


def _version_rows(registry: RegisteredModels, name: str) -> list[dict[str, Any]]:
    aliases, versions = registry.aliases(name), registry.versions(name)
    return [
        {
            "model": name,
            "version": version["version"],
            "aliases": ", ".join(sorted(alias for alias, of in aliases.items() if of == version["version"])),
            "metrics": _metrics_text(metrics),
            "created": _mlflow_time(version.get("creation_timestamp")),
            "run": version.get("run_id", ""),
            "source": version.get("source", ""),
        }
        for version, metrics in zip(versions, registry.metrics(versions), strict=True)
    ]


def _metrics_text(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name}={value:.6g}" for name, value in sorted(metrics.items()))


def _mlflow_time(milliseconds: Any) -> str:
    from airflow_zen.markup import iso_time

    return iso_time(int(milliseconds) / 1000) if milliseconds else ""
