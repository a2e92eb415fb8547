"""The documents between a task and the far side of its runtime: the spec of one execution, and its answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.json_records import decode_record
from airflow_zen.runs.step_run import NOT_MEASURED, ResourceUsage
from airflow_zen.stack import SavedArtifact, Stack
from airflow_zen.steps.runtime import RankOptions


class StorageConnection(msgspec.Struct, frozen=True):
    """The fields of an Airflow connection that storage options are made of."""

    conn_id: str
    conn_type: str
    host: str | None = None
    schema: str | None = None
    login: str | None = None
    password: str | None = None
    port: int | None = None
    extra_dejson: Mapping[str, Any] = msgspec.field(default_factory=dict)

    @classmethod
    def from_connection(cls, connection: Any) -> StorageConnection:
        """Return the fields of a connection."""
        return cls(**{name: getattr(connection, name) for name in cls.__struct_fields__})

    def environment(self) -> dict[str, str]:
        """Return the variable with which another process opens the artifact root."""
        return {STORAGE_VARIABLE: msgspec.json.encode(self).decode()}


STORAGE_VARIABLE = "AIRFLOW_ZEN_STORAGE"
"""The environment variable with the connection of the artifact root as JSON; it holds credentials."""


def storage_options(environment: Mapping[str, str]) -> Mapping[str, Any]:
    """Return fsspec's options for the artifact root from the environment; empty where it names no connection."""
    if not (text := environment.get(STORAGE_VARIABLE)):
        return {}
    from airflow_zen.transports.credentials import fsspec_options

    return fsspec_options(decode_record(text, StorageConnection))


STACK_VARIABLE = "AIRFLOW_ZEN_STEP_STACK"
"""The environment variable by which code of a step elsewhere finds the step's stack: a `StackSpec` as JSON."""


class StackSpec(msgspec.Struct, frozen=True):
    """The data with which another process opens the stack of a step, without credentials.

    `root` is the artifact root as that process reaches it.
    """

    root: str
    previews: bool = True
    allow_pickle: bool = False
    sync_to_disk: bool = False

    @classmethod
    def of_process(cls, environment: Mapping[str, str]) -> StackSpec | None:
        """Return the spec from the environment of a process that runs a step for a task; None in any other process."""
        text = environment.get(STACK_VARIABLE)
        return decode_record(text, cls) if text else None

    def open(self, environment: Mapping[str, str]) -> Stack:
        """Open the stack, without lineage."""
        from airflow_zen.artifacts.store import ArtifactStore
        from airflow_zen.caching.step_cache import StepCache
        from airflow_zen.materializers.registry import default_registry
        from airflow_zen.runs.records import StepRunRecords
        from airflow_zen.transports import open_transport

        transport = open_transport(self.root, storage_options(environment), sync_to_disk=self.sync_to_disk)
        return Stack(
            store=ArtifactStore(self.root, transport),
            materializers=default_registry(allow_pickle=self.allow_pickle),
            cache=StepCache(transport),
            records=StepRunRecords(transport),
            previews=self.previews,
        )


Position = tuple[int, int]
"""Line and column of a node in a file, as `ast` counts them."""


class SourceModule(msgspec.Struct, frozen=True):
    """A module of the project that is shipped with its source text.

    `file` is its path on the sending side, for tracebacks. With `statements` only these are executed, which may be
    nested; `left_out` are decorators that are not. `names` are the names that an import statement binds, if not all of
    them. `variables` are names to bind first, as typed JSON.
    """

    name: str
    file: str
    text: str
    is_package: bool = False
    statements: tuple[Position, ...] | None = None
    left_out: tuple[Position, ...] = ()
    names: tuple[tuple[Position, tuple[str, ...]], ...] = ()
    variables: str = "{}"


class StepSpec(msgspec.Struct, frozen=True):
    """All data that the far side needs to run a step once, as JSON without credentials.

    `format` is the version of this format, and `version` the release of this package that wrote it. Both, `stack.root`
    and `answer` exist in every format, so that a runner that cannot read the rest answers with the reason. `module` and
    `qualname` name the function, in one of `modules` or in an installed distribution. `arguments` is typed JSON by
    parameter, with refs of the artifacts; `inputs` and `context` are those of `Arguments`. `run` is the id of the step
    run, and `cache_key` the key of its checkpoints. `ranks`: how many processes run the function. `answer`: the path of
    a file, or a key in the artifact root; empty for a line on standard output. `log_level`: the lowest level of log
    records to send. `trial`: the fields of what makes the step a trial of a sweep.
    """

    format: int
    version: str
    module: str
    qualname: str
    step: str
    run: str
    stack: StackSpec
    arguments: str
    modules: tuple[SourceModule, ...] = ()
    inputs: tuple[str, ...] = ()
    context: tuple[str, ...] = ()
    answer: str = ""
    previews: bool | None = None
    log_level: int = 20
    cache_key: str = ""
    trial: Mapping[str, Any] | None = None
    ranks: RankOptions | None = None


class StoredOutput(msgspec.Struct, frozen=True):
    """One output in an answer: the ref in its wire form, and the summary."""

    name: str
    ref: Mapping[str, Any]
    summary: Mapping[str, Any]

    def saved(self) -> SavedArtifact:
        """Return it as `Stack.save` does."""
        return SavedArtifact(ArtifactRef.from_wire(self.ref), self.summary)


class StepAnswer(msgspec.Struct, frozen=True):
    """The answer of the far side: the outputs, or the `error` as `describe_error` returns it.

    `facts` is what `log_metadata` logged, by subject; `events` are the yielded descriptions of asset events.
    `has_checkpoints`: whether the function asked for its checkpoints. `resources`: what the step used there.
    """

    outputs: tuple[StoredOutput, ...] = ()
    model_inputs: Mapping[str, Mapping[str, Any]] = msgspec.field(default_factory=dict)
    facts: Mapping[str, Mapping[str, Any]] = msgspec.field(default_factory=dict)
    events: tuple[Mapping[str, Any], ...] = ()
    error: Mapping[str, Any] | None = None
    has_checkpoints: bool = False
    resources: ResourceUsage = NOT_MEASURED
