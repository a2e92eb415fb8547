"""`airflow zen models …`: MLflow's registry."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.utils.cli import suppress_logs_and_warning

from airflow_zen.cli.table import show
from airflow_zen.errors import LineageNotFound, SettingsError
from airflow_zen.lineage.refusals import MlflowRefused
from airflow_zen.lineage.registry import RegisteredModels
from airflow_zen.lineage.rest import MlflowRest
from airflow_zen.settings import Settings, tracking_server


@suppress_logs_and_warning
def list_models(args: Any) -> None:
    """Print the registered models, or the versions of one."""
    registry = _registry(args)
    rows = _versions(registry, args.name) if args.name else _models(registry)
    if not rows:
        raise SystemExit(
            f"MLflow has no version of model {args.name!r}." if args.name else "MLflow has no registered model."
        )
    show(rows, args.output)


def promote(args: Any) -> None:
    """Point an alias at a version of a model; refuse a version that there is not."""
    registry = _registry(args)
    try:
        before = registry.promote(args.name, args.version, args.alias)
    except LineageNotFound as error:
        raise SystemExit(str(error)) from error
    except MlflowRefused as error:
        raise SystemExit(f"The alias was not set: {error}") from error
    moved = f", which pointed at version {before}" if before and before != args.version else ""
    print(f"models:/{args.name}@{args.alias} is version {args.version} now{moved}.")


def _registry(args: Any) -> RegisteredModels:
    settings = Settings.read(args.stack)
    server = tracking_server(settings)
    if server is None:
        raise SettingsError(f"MLflow is not configured: set {settings.named('mlflow_conn_id')} or mlflow_tracking_uri.")
    return RegisteredModels(MlflowRest(server))


def _models(registry: RegisteredModels) -> list[dict[str, Any]]:
    return [
        {
            "model": model["name"],
            "latest": max((int(v["version"]) for v in model.get("latest_versions", [])), default=""),
            "aliases": _told({alias["alias"]: alias["version"] for alias in model.get("aliases", [])}),
            "changed": _date(model.get("last_updated_timestamp")),
            "description": model.get("description", ""),
        }
        for model in registry.models()
    ]


def _versions(registry: RegisteredModels, name: str) -> list[dict[str, Any]]:
    aliases = registry.aliases(name)
    return [
        {
            "model": name,
            "version": version["version"],
            "aliases": ", ".join(sorted(alias for alias, of in aliases.items() if of == version["version"])),
            "created": _date(version.get("creation_timestamp")),
            "run": version.get("run_id", ""),
            "source": version.get("source", ""),
        }
        for version in registry.versions(name)
    ]


def _told(aliases: dict[str, str]) -> str:
    return ", ".join(f"{alias} → {version}" for alias, version in sorted(aliases.items()))


def _date(milliseconds: Any) -> str:
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC).isoformat(timespec="seconds") if milliseconds else ""
