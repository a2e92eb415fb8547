"""The stack and the runtime that a task runs in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_zen.config.options import find_options
from airflow_zen.config.settings import Settings, settings_of_uri
from airflow_zen.errors import ArtifactRefused, SettingsError
from airflow_zen.runtimes import parse_runtime
from airflow_zen.steps.runtime import IN_PROCESS, ResourceHints, Runtime

if TYPE_CHECKING:
    from airflow_zen.artifacts.ref import ArtifactRef


def zen_conf(conf: Any) -> Mapping[str, Any]:
    """Return the `zen` section of a DAG run's configuration."""
    zen = (conf or {}).get("zen")
    return zen if isinstance(zen, dict) else {}


def resolve_stack_name(conf: Any, declared: str) -> str | None:
    """Return the stack of the DAG run's configuration, else the declared one; None for the active stack."""
    requested = zen_conf(conf).get("stack")
    if requested is not None and not (isinstance(requested, str) and requested):
        raise SettingsError(f"The DAG run's configuration must name a stack in zen.stack, got {requested!r}.")
    return requested or declared or None


def resolve_runtime(
    conf: Any, declared: Runtime | str | None, settings: Settings, hints: ResourceHints | None = None
) -> Runtime:
    """Return where a step runs: as the DAG run's configuration says, else the step, its stack, or `[zen] runtime`.

    Options of the runtime that have their defaults are those of the `hints`.
    """
    requested = zen_conf(conf).get("runtime")
    if requested is not None and not isinstance(requested, str):
        raise SettingsError(f"The DAG run's configuration must describe zen.runtime as text, got {requested!r}.")
    for value, where in (
        (requested, "zen.runtime of the DAG run's configuration"),
        (declared, "@ml_step(runtime=…)"),
        (settings.runtime, settings.qualified_option("runtime")),
    ):
        if value:
            runtime = value if isinstance(value, Runtime) else parse_runtime(value, where)
            return _with_hints(runtime, hints) if hints else runtime
    return IN_PROCESS


def _with_hints(runtime: Runtime, hints: ResourceHints) -> Runtime:
    if not isinstance(runtime, msgspec.Struct):
        return runtime
    wanted: dict[str, Any] = {"memory": hints.memory}
    wanted |= dict.fromkeys(("cpu", "cpus", "num_cpus"), hints.cpus)
    wanted |= dict.fromkeys(("gpu", "gpus", "num_gpus"), hints.gpus)
    defaults = {field.name: field.default for field in msgspec.structs.fields(runtime)}
    return msgspec.structs.replace(
        runtime,
        **{
            name: value
            for name, value in wanted.items()
            if value and name in defaults and getattr(runtime, name) == defaults[name]
        },
    )


def is_stack_overridden(context: Any, operator: Any, settings: Settings) -> bool:
    """Whether the DAG run's configuration chose another stack than the step's own."""
    requested = zen_conf(context["dag_run"].conf).get("stack")
    return bool(requested) and find_options(operator.stack or None).stack != settings.stack


def check_inputs_in_stack(inputs: Mapping[str, ArtifactRef], settings: Settings, reader: str) -> None:
    """Raise `ArtifactRefused` for an input of another stack, with the names of both."""
    for argument, ref in inputs.items():
        if ref.uri.startswith(f"{settings.artifact_root}/"):
            continue
        owner = settings_of_uri(ref.uri)
        if owner is not None:
            raise ArtifactRefused(
                f"Input {argument!r} of {reader} is an artifact of stack {owner.stack!r} ({owner.artifact_root}), and "
                f"{reader} runs in stack {settings.stack!r} ({settings.artifact_root}). Let both steps run in one stack, or "
                f"load it in a plain task with airflow_zen.load(ref, stack={owner.stack!r})."
            )
