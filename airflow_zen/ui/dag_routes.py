"""The routes of a DAG: its runs, the versions of its artifacts, two runs side by side, and its plan."""

from __future__ import annotations

from typing import Annotated

from airflow.configuration import conf
from fastapi import APIRouter, Query

from airflow_zen.ui.access import CodeOfDag, ContentOfDag, Name, RequestAccess, RunsOfDag, not_found
from airflow_zen.ui.airflow_runs import has_dag
from airflow_zen.ui.dag_page import compare_runs, list_artifacts, list_runs
from airflow_zen.ui.dag_responses import DagArtifacts, DagRunList, PlanPage, RunComparison
from airflow_zen.ui.facts import visible_reason
from airflow_zen.ui.plan_page import Planner
from airflow_zen.ui.stacks import OpenedStack, stacks

router = APIRouter(prefix="/api/dags/{dag_id}")
_planner = Planner()

_PLANS_ARE_OFF = (
    "[zen] plan_page is off, because a plan runs the code of the DAG file on the host of the API server. Use `airflow zen "
    "plan`, or set it to True for the API server (AIRFLOW__ZEN__PLAN_PAGE=True), on whose host the DAG files have to be."
)

_HIDDEN_ERROR = "No plan could be made. Users who may read every DAG see the reason, as does `airflow zen plan {}`."

Limit = Annotated[int, Query(ge=1, le=200)]


@router.get("/runs")
def read_runs(dag_id: RunsOfDag, limit: Limit = 30) -> DagRunList:
    """Return the DAG runs with records, newest first."""
    return list_runs(_open_stack_of(dag_id), dag_id, limit)


@router.get("/artifacts")
def read_artifacts(dag_id: ContentOfDag, access: RequestAccess, limit: Limit = 50) -> DagArtifacts:
    """Return the versions of the DAG's artifacts over time."""
    return list_artifacts(_open_stack_of(dag_id), dag_id, access, limit)


@router.get("/compare")
def read_comparison(dag_id: RunsOfDag, access: RequestAccess, before: Name, after: Name) -> RunComparison:
    """Return two DAG runs side by side."""
    found = compare_runs(stacks.of_run(dag_id, after), dag_id, before, after, access)
    if found is None:
        raise not_found()
    return found


@router.get("/plan")
def read_plan(dag_id: CodeOfDag, access: RequestAccess) -> PlanPage:
    """Return what a run started now would reuse."""
    _open_stack_of(dag_id)
    if not conf.getboolean("zen", "plan_page", fallback=False):
        return PlanPage(dag_id=dag_id, steps=[], error=_PLANS_ARE_OFF)
    page = _planner.plan(dag_id)
    if page.error and not access.may_read_every_dag:
        # Its text may name artifacts, tags and DAGs that the user may not see.
        return page.model_copy(update={"error": _HIDDEN_ERROR.format(dag_id)})
    steps = [step.model_copy(update={"why": visible_reason(step.why, access)}) for step in page.steps]
    return page.model_copy(update={"steps": steps})


def _open_stack_of(dag_id: str) -> OpenedStack:
    """Return the stack that has step runs of a DAG, else the active one.

    Raises `HTTPException` where no stack has any, and Airflow does not have the DAG.
    """
    opened = stacks.of_dag(dag_id)
    if opened is None and not has_dag(dag_id):
        raise not_found()
    return opened or stacks.get()
