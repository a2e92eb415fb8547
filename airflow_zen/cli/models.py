"""`airflow zen models …`: registered models in MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from getpass import getuser
from typing import TYPE_CHECKING, Any

from airflow_zen.cli.command import ARG_STACK, STACK_AND_OUTPUT, argument, command
from airflow_zen.cli.output import print_rows

if TYPE_CHECKING:
    from airflow_zen.models.promotion import Promotion, Promotions
    from airflow_zen.models.registered_models import RegisteredModels


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
    argument("alias", "The alias (default: champion)", nargs="?", default="champion"),
    argument("--why", "The reason, which is kept", default=""),
    ARG_STACK,
)
def promote_model(args: Any) -> None:
    """Point an alias at a version of a model.

    Who did it, when and why, and the version before are kept: see `airflow zen models history`. A model or a version
    that does not exist is refused, and so is a promotion while the alias is moved by another process. No gates are
    checked.
    """
    from airflow_zen.models.model import ModelSelector
    from airflow_zen.models.promotion import Move

    promotions = _open_promotions(args)
    before = promotions.registry.aliases(args.name).get(args.alias, "")
    version = promotions.registry.get(ModelSelector.parse(f"{args.name}/{args.version}"))
    move = Move(
        model=args.name,
        alias=args.alias,
        version=version.number,
        previous=before,
        digest=version.tags.get("zen.digest", ""),
        by=getuser(),
        why=args.why,
    )
    promotions.promote(move)
    _report(args.name, args.alias, args.version, before)


@command(
    "models rollback",
    argument("name", "The registered model"),
    argument("alias", "The alias (default: champion)", nargs="?", default="champion"),
    argument("--why", "The reason, which is kept", default=""),
    ARG_STACK,
)
def roll_back_model(args: Any) -> None:
    """Point an alias at the version that it had before the last promotion.

    A second rollback goes one promotion further back. An alias that was moved by hand returns to the version of the
    last promotion.
    """
    done = _open_promotions(args).roll_back(args.name, args.alias, getuser(), args.why)
    _report(args.name, args.alias, done.version, done.previous)


@command(
    "models history",
    argument("name", "The registered model"),
    argument("alias", "The alias (default: champion)", nargs="?", default="champion"),
    *STACK_AND_OUTPUT,
)
def show_history(args: Any) -> None:
    """List the promotions and rollbacks of an alias, newest first: who, when, why, from which version, by which gates.

    A promotion whose process was killed is pending until the next one. An alias that was moved in MLflow has a row of
    its own, without a time.
    """
    promotions = _open_promotions(args)
    moves, current = (
        promotions.history(args.name, args.alias),
        promotions.registry.aliases(args.name).get(args.alias, ""),
    )
    rows = [_move_row(move) for move in reversed(moves)]
    known = next((move.version for move in reversed(moves) if move.state != "abandoned"), "")
    if current != known:
        text = "moved outside of airflow_zen" if current else "deleted outside of airflow_zen"
        rows.insert(0, {**dict.fromkeys(_HISTORY, ""), "version": current, "previous": known, "state": text})
    if not rows:
        raise SystemExit(f"{args.name}@{args.alias} has never been set.")
    print_rows(rows, args.output)


_HISTORY = ("number", "version", "previous", "state", "at", "by", "approved_by", "why", "task", "gates")


def _move_row(move: Promotion) -> dict[str, Any]:
    gates = ", ".join(f"{gate}: {outcome}" for gate, outcome in move.gates.items())
    state = f"{move.state} (rollback)" if move.rollback else move.state
    cells = (move.version, move.previous, state, _time_text(move.at), move.by, move.approved_by, move.why, move.origin)
    return dict(zip(_HISTORY, (move.number, *cells, gates), strict=True))


def _report(name: str, alias: str, version: str, before: str) -> None:
    moved = f", which pointed at version {before}" if before and before != version else ""
    print(f"models:/{name}@{alias} is version {version} now{moved}.")


def _open_registry(args: Any) -> RegisteredModels:
    from airflow_zen.config.model_selectors import open_registry
    from airflow_zen.config.settings import Settings

    return open_registry(Settings.read(args.stack))


def _open_promotions(args: Any) -> Promotions:
    from airflow_zen.config.settings import Settings, open_stack
    from airflow_zen.models.promotion import Promotions

    stack = open_stack(Settings.read(args.stack), lineage=False)
    return Promotions(_open_registry(args), stack.store.transport, stack.clock)


def _model_rows(registry: RegisteredModels) -> list[dict[str, Any]]:
    from airflow_zen.models.registered_models import RegisteredVersion

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
