"""Results of lineage queries: runs, ancestries and relatives, shown as tables and trees in terminals and notebooks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from airflow_zen.markup import Tree, html_table, iso_time, text_table


@dataclass(frozen=True)
class FoundArtifact:
    """An artifact as runs name it; `digest` is its first 16 characters."""

    name: str
    digest: str


@dataclass(frozen=True)
class FoundRun:
    """A step run as MLflow has it. A `cached` run reused its outputs.

    started, ended: seconds since the epoch; None while the run has not ended.
    """

    run_id: str
    experiment_id: str
    name: str
    dag_id: str
    dag_run_id: str
    task_id: str
    state: str
    started: float
    ended: float | None
    cached: bool
    inputs: tuple[FoundArtifact, ...]
    outputs: tuple[FoundArtifact, ...]


@dataclass(frozen=True)
class Ancestry:
    """The runs that a model or an artifact was made by, its own first, and the raw artifacts that they started from.

    An artifact is raw if a run without inputs made it, or if no run is known that made it. makers: the id of the run
    that made each input, by the id of the run that read it and the input.
    """

    runs: tuple[FoundRun, ...]
    raw: tuple[FoundArtifact, ...]
    makers: Mapping[tuple[str, FoundArtifact], str] = field(default_factory=dict)

    def maker_of(self, artifact: FoundArtifact, reader: FoundRun) -> FoundRun | None:
        """Return the run that made an input of a run; None where no run is known that made it."""
        maker = self.makers.get((reader.run_id, artifact))
        return next((run for run in self.runs if run.run_id == maker), None)

    def to_dict(self) -> dict[str, Any]:
        """Return the first run with its inputs, each with the run that made it; `seen` marks a run with inputs above."""
        return self._describe_run(self.runs[0], set())

    def to_tree(self) -> Tree:
        """Return the first run as a tree: below each run its inputs, below each input the run that made it."""
        return _run_tree(self.to_dict())

    def __str__(self) -> str:
        return str(self.to_tree())

    def _repr_html_(self) -> str:
        return self.to_tree()._repr_html_()

    def _describe_run(self, run: FoundRun, seen: set[str]) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "step": run.task_id or run.name,
            "dag": run.dag_id,
            "run": run.dag_run_id,
            "state": run.state,
            "started": iso_time(run.started),
        }
        if run.run_id in seen:
            return {**entry, "seen": True}
        seen.add(run.run_id)
        return {**entry, "inputs": [self._describe_input(artifact, run, seen) for artifact in run.inputs]}

    def _describe_input(self, artifact: FoundArtifact, reader: FoundRun, seen: set[str]) -> dict[str, Any]:
        entry: dict[str, Any] = {"name": artifact.name, "digest": artifact.digest}
        maker = self.maker_of(artifact, reader)
        return {**entry, "made_by": self._describe_run(maker, seen)} if maker else entry


class FoundRuns(list[FoundRun]):
    """A list of runs that notebooks show as a table."""

    _HEADER: ClassVar = ("started", "DAG", "run", "task", "state", "cached", "outputs")

    def __str__(self) -> str:
        return text_table(self._HEADER, self._table())

    def _repr_html_(self) -> str:
        return html_table(self._HEADER, self._table())

    def _table(self) -> list[tuple[str, ...]]:
        return [
            (
                iso_time(run.started),
                run.dag_id,
                run.dag_run_id,
                run.task_id,
                run.state,
                "yes" if run.cached else "",
                ", ".join(artifact.name for artifact in run.outputs),
            )
            for run in self
        ]


@dataclass(frozen=True)
class Relatives:
    """The step runs upstream of an artifact, its producer first, and those that read it.

    `downstream` are the readers in the artifact's own DAG run, and in all DAG runs that MLflow has.
    """

    upstream: tuple[FoundRun, ...]
    downstream: tuple[FoundRun, ...]

    _HEADER: ClassVar = ("relation", "DAG", "run", "task", "outputs")

    def __str__(self) -> str:
        return text_table(self._HEADER, self._table())

    def _repr_html_(self) -> str:
        return html_table(self._HEADER, self._table())

    def _table(self) -> list[tuple[str, ...]]:
        both = [*(("made by", run) for run in self.upstream), *(("read by", run) for run in self.downstream)]
        return [
            (kind, run.dag_id, run.dag_run_id, run.task_id, ", ".join(artifact.name for artifact in run.outputs))
            for kind, run in both
        ]


def _run_tree(run: dict[str, Any]) -> Tree:
    label = f"{run['step']} · {run['dag']} {run['run']} · {run['started']} · {run['state']}"
    inputs = (
        Tree(f"{artifact['name']} {artifact['digest']}", (_run_tree(artifact["made_by"]),))
        if "made_by" in artifact
        else Tree(f"{artifact['name']} {artifact['digest']} (raw)")
        for artifact in run.get("inputs", ())
    )
    return Tree(f"{label} (see above)" if run.get("seen") else label, tuple(inputs))
