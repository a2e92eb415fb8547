"""`airflow zen models …`: MLflow's model registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_zen.cli.command import ARG_STACK, STACK_AND_OUTPUT, argument, command
from airflow_zen.cli.output import iso_time, print_rows

if TYPE_CHECKING:
    from airflow_zen.lineage.mlflow.models import RegisteredModels


@command("list", argument("name", "The model (default: all)", nargs="?"), *STACK_AND_OUTPUT)
def list_models(args: Any) -> None:
    """List the registered models, or the versions of one."""
    registry = _open_registry(args)
    rows = _version_rows(registry, args.name) if args.name else _model_rows(registry)
    if not rows:
        raise SystemExit(
            f"MLflow has no version of model {args.name!r}." if args.name else "MLflow has no registered model."
        )
    print_rows(rows, args.output)


@command(
    "promote",
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


COMMANDS = (list_models, promote_model)


def _open_registry(args: Any) -> RegisteredModels:
    from airflow_zen.config.settings import Settings, tracking_server
    from airflow_zen.errors import SettingsError
    from airflow_zen.lineage.mlflow.models import RegisteredModels
    from airflow_zen.lineage.mlflow.rest import MlflowRest

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
            "aliases": ", ".join(sorted(f"{a['alias']} → {a['version']}" for a in model.get("aliases", []))),
            "changed": _mlflow_time(model.get("last_updated_timestamp")),
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
            "created": _mlflow_time(version.get("creation_timestamp")),
            "run": version.get("run_id", ""),
            "source": version.get("source", ""),
        }
        for version in registry.versions(name)
    ]


def _mlflow_time(milliseconds: Any) -> str:
    return iso_time(int(milliseconds) / 1000) if milliseconds else ""
