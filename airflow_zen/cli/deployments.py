"""`airflow zen models deployments`: what serves models, its log, and its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_zen.cli.command import STACK_AND_OUTPUT, argument, command, open_stack_for
from airflow_zen.cli.output import print_rows

if TYPE_CHECKING:
    from airflow_zen.artifacts.ref import ArtifactVersion
    from airflow_zen.deployment.base import Deployment
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

    A stop waits for the requests that are being answered.
    """
    stack = open_stack_for(args)
    if args.action == "list" or not args.name:
        prefix = f"{_PREFIX}{args.name or ''}"
        found = [_load(version, stack) for version in stack.names.newest_versions(prefix)]
        if args.action == "list":
            print_rows([_row(each) for each in found if args.name in (None, each.name)], args.output)
            return
        names = ", ".join(each.name for each in found) or "none"
        raise SystemExit(
            f"airflow zen models deployments {args.action} needs the name of a deployment. There are: {names}."
        )
    deployed = _load(stack.names.get(f"{_PREFIX}{args.name}"), stack)
    if args.action == "logs":
        print(_target(deployed).logs(deployed, args.lines))
        return
    _target(deployed).stop(deployed)
    print(f"Deployment {deployed.name!r} is stopped.")


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
