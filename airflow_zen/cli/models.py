"""`airflow zen models …`: registered models in MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_zen.cli.command import ARG_STACK, STACK_AND_OUTPUT, argument, command
from airflow_zen.cli.output import print_rows

if TYPE_CHECKING:
    from airflow_zen.models.registry import RegisteredModels


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
    from airflow_zen.models.model import ModelSelector

    try:
        registry = _open_registry(args)
        before = registry.aliases(args.name).get(args.alias, "")
        registry.get(ModelSelector.parse(f"{args.name}/{args.version}"))
        registry.set_alias(args.name, args.alias, args.version)
    except MlflowRejected as error:
        raise SystemExit(f"The alias was not set: {error}") from error
    moved = f", which pointed at version {before}" if before and before != args.version else ""
    print(f"models:/{args.name}@{args.alias} is version {args.version} now{moved}.")


def _open_registry(args: Any) -> RegisteredModels:
    from airflow_zen.config.registry import open_registry
    from airflow_zen.config.settings import Settings

    return open_registry(Settings.read(args.stack))


def _model_rows(registry: RegisteredModels) -> list[dict[str, Any]]:
    from airflow_zen.models.registry import RegisteredVersion

    models = [*registry.models()]
    versions = [map(RegisteredVersion.from_answer, model.get("latest_versions", [])) for model in models]
    latest = [max(found, key=lambda version: int(version.number), default=None) for found in versions]
    return [
        {
            "model": model["name"],
            "latest": int(version.number) if version else "",
            "aliases": ", ".join(sorted(f"{a['alias']} → {a['version']}" for a in model.get("aliases", []))),
            "metrics": _metrics_text(metrics),
            "changed": _time_text(int(model.get("last_updated_timestamp") or 0) / 1000),
            "description": model.get("description", ""),
        }
        for model, version, metrics in zip(models, latest, registry.metrics(latest), strict=True)
    ]


def _version_rows(registry: RegisteredModels, name: str) -> list[dict[str, Any]]:
    aliases, versions = registry.aliases(name), [*registry.versions(name)]
    return [
        {
            "model": name,
            "version": version.number,
            "aliases": ", ".join(sorted(alias for alias, number in aliases.items() if number == version.number)),
            "metrics": _metrics_text(metrics),
            "created": _time_text(version.created),
            "run": version.run_id,
            "source": version.source,
        }
        for version, metrics in zip(versions, registry.metrics(versions), strict=True)
    ]


def _metrics_text(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name}={value:.6g}" for name, value in sorted(metrics.items()))


def _time_text(seconds: float) -> str:
    from airflow_zen.markup import iso_time

    return iso_time(seconds) if seconds else ""
