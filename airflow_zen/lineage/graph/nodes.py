"""The nodes of a lineage graph, with what a reader may ask of each."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.lineage.datasets import format_size
from airflow_zen.lineage.graph.model import Node, NodeKind
from airflow_zen.lineage.limits import short_digest, shorten
from airflow_zen.lineage.models import is_mlflow_model
from airflow_zen.lineage.names import run_name
from airflow_zen.lineage.pages import PageUrls
from airflow_zen.lineage.step_run import StepRun

CACHED = "CACHED"

# The worst state stands for a group.
_STATES_BY_SEVERITY = ("FAILED", "KILLED", "RUNNING", "FINISHED", CACHED)

_MAX_FACT = 2000


def step_node(run: StepRun, pages: PageUrls) -> Node:
    """Show one step run."""
    facts = {
        "task": run.id.task_id,
        "map index": str(run.id.map_index) if run.id.map_index >= 0 else "",
        "state": str(run.state),
        "try": str(run.id.try_number),
        "time": _duration_text(run),
        "cache": run.cache,
        "why": run.why,
        "made by": run.origin,
        "error": run.error,
        **{f"parameter {name}": _parameter_text(value) for name, value in run.parameters.items()},
        "version": run.code_version,
        "log": run.log_url,
    }
    return Node(
        id=f"step:{run.id.task_id}:{run.id.map_index}",
        kind=NodeKind.STEP,
        label=run_name(run).removesuffix(" (cached)"),
        detail=f"{_state_word(_displayed_state(run))} · {_duration_text(run)}",
        state=_displayed_state(run),
        facts=_nonempty_facts(facts),
        url=pages.step_url(run.id),
        started=run.started,
        ended=run.ended,
    )


def collapsed_steps_node(runs: Sequence[StepRun], pages: PageUrls) -> Node:
    """Show all mapped runs of a task as one."""
    states = Counter(map(_displayed_state, runs))
    tally = " · ".join(f"{states[state]} {_state_word(state)}" for state in _STATES_BY_SEVERITY if states[state])
    ends = [run.ended for run in runs if run.ended is not None]
    task = runs[0].id.task_id
    facts = {
        "task": task,
        "mapped": str(len(runs)),
        "states": tally,
        "time": f"{sum(map(_duration, runs)):.1f} s in all",
    }
    return Node(
        id=f"steps:{task}",
        kind=NodeKind.STEP,
        label=f"{task} × {len(runs)}",
        detail=tally,
        state=next(state for state in _STATES_BY_SEVERITY if states[state]),
        count=len(runs),
        facts=facts,
        url=pages.task_url(runs[0].id),
        started=min(run.started for run in runs),
        ended=max(ends) if ends else None,
    )


def artifact_node(ref: ArtifactRef, dag_id: str, made_here: bool, pages: PageUrls) -> Node:
    """Show one artifact; one that this DAG run did not make says where it comes from."""
    kind = NodeKind.MODEL if is_mlflow_model(ref) else NodeKind.ARTIFACT
    facts = {
        "name": ref.name,
        "from": "" if made_here else _producer_text(ref, dag_id),
        "type": ref.type,
        "shape": ref.shape,
        "size": format_size(ref.size),
        "encoding": ref.encoding,
        "digest": ref.digest,
        "address": ref.uri,
        "made by": ref.origin,
    }
    what = ref.shape.replace(" rows", "").replace(" columns", "") or ref.type.rpartition(".")[2]
    return Node(
        id=f"artifact:{ref.name}@{ref.digest}",
        kind=kind,
        label=ref.name.removeprefix(f"{dag_id}/"),
        detail=f"{what} · {short_digest(ref.digest)[:8]}",
        facts=_nonempty_facts(facts),
        url=pages.artifact_url(ref),
    )


def collapsed_artifacts_node(refs: Sequence[ArtifactRef], dag_id: str) -> Node:
    """Show artifacts that take the same way as one."""
    names = sorted({ref.name.removeprefix(f"{dag_id}/") for ref in refs})
    size = format_size(sum(ref.size for ref in refs))
    digests = "".join(sorted(ref.digest for ref in refs))
    facts = {
        "names": _shorten_fact(", ".join(names)),
        "types": _shorten_fact(", ".join(sorted({ref.type for ref in refs}))),
        "size": f"{size} in all",
        "digests": _shorten_fact(" ".join(short_digest(ref.digest) for ref in refs)),
    }
    return Node(
        id=f"artifacts:{hashlib.sha256(digests.encode()).hexdigest()[:16]}",
        kind=NodeKind.MODEL if all(map(is_mlflow_model, refs)) else NodeKind.ARTIFACT,
        label=f"{names[0]} × {len(refs)}" if len(names) == 1 else f"{len(refs)} artifacts",
        detail=f"{len({ref.digest for ref in refs})} contents · {size}",
        count=len(refs),
        facts=facts,
    )


def _producer_text(ref: ArtifactRef, dag_id: str) -> str:
    producer = ref.name.partition("/")[0] if "/" in ref.name else ""
    if producer == dag_id:
        return "an earlier run of this DAG"
    return f"DAG {producer}" if producer else "outside this DAG run"


def _displayed_state(run: StepRun) -> str:
    return CACHED if run.cache == "hit" else str(run.state)


def _state_word(state: str) -> str:
    return state.lower()


def _duration(run: StepRun) -> float:
    return (run.started if run.ended is None else run.ended) - run.started


def _duration_text(run: StepRun) -> str:
    seconds = _duration(run)
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _nonempty_facts(facts: Mapping[str, str]) -> dict[str, str]:
    return {name: _shorten_fact(text) for name, text in facts.items() if text}


def _shorten_fact(text: str) -> str:
    return shorten(text, _MAX_FACT)


def _parameter_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
