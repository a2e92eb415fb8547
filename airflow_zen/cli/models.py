"""`airflow zen models …`: MLflow's registry."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.utils.cli import suppress_logs_and_warning

from airflow_zen.cli.output import print_rows
from airflow_zen.config.settings import Settings, tracking_server
from airflow_zen.errors import LineageNotFound, SettingsError
from airflow_zen.lineage.mlflow.errors import MlflowRejected
from airflow_zen.lineage.mlflow.model_registry import RegisteredModels
from airflow_zen.lineage.mlflow.rest import MlflowRest


@suppress_logs_and_warning
def list_models(args: Any) -> None:
    """Print the registered models, or the versions of one."""
    registry = _open_registry(args)
    rows = _version_rows(registry, args.name) if args.name else _model_rows(registry)
    if not rows:
        raise SystemExit(
            f"MLflow has no version of model {args.name!r}." if args.name else "MLflow has no registered model."
        )
    print_rows(rows, args.output)


def promote_model(args: Any) -> None:
    """Point an alias at a version of a model; refuse a version that there is not."""
    registry = _open_registry(args)
    try:
        before = registry.promote(args.name, args.version, args.alias)
    except LineageNotFound as error:
        raise SystemExit(str(error)) from error
    except MlflowRejected as error:
        raise SystemExit(f"The alias was not set: {error}") from error
    moved = f", which pointed at version {before}" if before and before != args.version else ""
    print(f"models:/{args.name}@{args.alias} is version {args.version} now{moved}.")


def _open_registry(args: Any) -> RegisteredModels:
    settings = Settings.read(args.stack)
    server = tracking_server(settings)
    if server is None:
        raise SettingsError(
            f"MLflow is not configured: set {settings.qualified_option('mlflow_conn_id')} or mlflow_tracking_uri."
        )
    return RegisteredModels(MlflowRest(server))


def _model_rows(registry: RegisteredModels) -> list[dict[str, Any]]:
    return [
        {
            "model": model["name"],
            "latest": max((int(v["version"]) for v in model.get("latest_versions", [])), default=""),
            "aliases": _aliases_text({alias["alias"]: alias["version"] for alias in model.get("aliases", [])}),
            "changed": _iso_timestamp(model.get("last_updated_timestamp")),
            "description": model.get("description", ""),
        }
        for model in registry.models()
    ]


def _version_rows(registry: RegisteredModels, name: str) -> list[dict[str, Any]]:
    aliases = registry.aliases(name)
    return [
        {
            "model": name,
            "version": version["version"],
            "aliases": ", ".join(sorted(alias for alias, of in aliases.items() if of == version["version"])),
            "created": _iso_timestamp(version.get("creation_timestamp")),
            "run": version.get("run_id", ""),
            "source": version.get("source", ""),
        }
        for version in registry.versions(name)
    ]


def _aliases_text(aliases: dict[str, str]) -> str:
    return ", ".join(f"{alias} → {version}" for alias, version in sorted(aliases.items()))


def _iso_timestamp(milliseconds: Any) -> str:
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC).isoformat(timespec="seconds") if milliseconds else ""
