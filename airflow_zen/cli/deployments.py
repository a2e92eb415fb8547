"""`airflow zen models deployments`: what serves models, its log, and its end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from airflow_zen.cli.command import STACK_AND_OUTPUT, argument, command, open_stack_for
from airflow_zen.cli.output import print_rows

if TYPE_CHECKING:
    from airflow_zen.artifacts.ref import ArtifactVersion
    from airflow_zen.deployment.base import Deployment
    from airflow_zen.deployment.unfinished import UnfinishedDeployments
    from airflow_zen.stack import Stack

_PREFIX = "deployments/"
_ACTIONS = ("list", "logs", "stop")


@command(
    "models deployments",
    argument("action", "What to do (default: list)", nargs="?", choices=_ACTIONS, default="list"),
    argument("name", "The deployment; list shows all without it", nargs="?"),
    argument("--lines", "The lines of the log (default: 100)", type=int, default=100),
    *STACK_AND_OUTPUT,
)
def deployments(args: Any) -> None:
    """List the deployments of models with their state, show the log of one, or stop one.

    What a killed task has left of the first deployment of a name is listed as unfinished. A stop ends it, and waits for
    the requests that are being answered.
    """
    stack = open_stack_for(args)
    if args.action == "list":
        print_rows([*_rows(args.name or "", stack)], args.output)
    elif not args.name:
        names = ", ".join(row["name"] for row in _rows("", stack)) or "none"
        raise SystemExit(
            f"airflow zen models deployments {args.action} needs the name of a deployment. There are: {names}."
        )
    elif args.action == "logs":
        deployed = _load(stack.names.get(f"{_PREFIX}{args.name}"), stack)
        print(_target(deployed).logs(deployed, args.lines))
    else:
        _stop(args.name, stack)


def _rows(name: str, stack: Stack) -> Iterator[dict[str, Any]]:
    """Yield a row for each deployment, and for what is left of unfinished ones."""
    finished = [_load(version, stack) for version in stack.names.newest_versions(f"{_PREFIX}{name}")]
    yield from (_row(each) for each in finished if name in ("", each.name))
    known = {each.name for each in finished}
    for begun in _unfinished(stack):
        if begun.name not in known and name in ("", begun.name):
            row = _row(begun)
            if row["state"] != "stopped":
                yield row | {"state": f"unfinished: {row['state']}"}


def _stop(name: str, stack: Stack) -> None:
    """Stop a deployment, and what is left of one that has begun in its place, which may have another target."""
    from airflow_zen.deployment import parse_target
    from airflow_zen.errors import ArtifactNotFound

    begun = _unfinished(stack).find(name)
    try:
        found = [_load(stack.names.get(f"{_PREFIX}{name}"), stack)]
    except ArtifactNotFound:
        if begun is None:
            raise
        found = []
    for target, deployed in {each.target: each for each in [*found, *([begun] if begun else [])]}.items():
        parse_target(target).stop(deployed)
    _unfinished(stack).end(name)
    print(f"Deployment {name!r} is stopped.")


def _unfinished(stack: Stack) -> UnfinishedDeployments:
    from airflow_zen.deployment.unfinished import UnfinishedDeployments

    return UnfinishedDeployments(stack.store.transport)


def _load(version: ArtifactVersion, stack: Stack) -> Deployment:
    with stack.scratch_directory() as scratch:
        deployed: Deployment = stack.load(version.ref, scratch)
    return deployed


def _target(deployed: Deployment) -> Any:
    from airflow_zen.deployment import parse_target

    return parse_target(deployed.target)


def _row(deployed: Deployment) -> dict[str, Any]:
    from airflow_zen.errors import ZenError

    target = _target(deployed)
    try:
        state = target.describe_state(deployed)
    except ZenError as error:
        state = f"unknown: {error}"
    return {
        "name": deployed.name,
        "model": deployed.model,
        "version": deployed.version,
        "state": state,
        "target": type(target).__name__,
        "url": deployed.predict_url,
        "owner": deployed.owner,
        "since": deployed.since,
    }
