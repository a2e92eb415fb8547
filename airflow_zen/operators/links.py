"""Buttons on a task's page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import airflow
from airflow.sdk import BaseOperatorLink

from airflow_zen import has_pages

if TYPE_CHECKING:
    from airflow.models.taskinstancekey import TaskInstanceKey
    from airflow.sdk import BaseOperator

    from airflow_zen.operators.fused import FusedOperator
    from airflow_zen.operators.ml_step import MLStepOperator


class StepLink(BaseOperatorLink):
    """A link whose address the task's process puts into the operator's `links`, by the name of the button."""

    name: ClassVar[str]

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey | Any) -> str:
        """Return the address, or "", which shows no button; called in the task's process when the step has ended."""
        return str(getattr(operator, "links", {}).get(self.name, ""))


class MlflowRunLink(StepLink):
    """The link to the step's run in MLflow."""

    name = "MLflow run"


class ArtifactsLink(StepLink):
    """The link to the step's page in Airflow: what it read and made, and why it ran."""

    name = "Artifacts"


class VersionsLink(StepLink):
    """The link to the versions of the registered model, else to the runs in MLflow that computed the task's outputs."""

    name = "Versions"


class ProducedByLink(StepLink):
    """The link of a reused result to the run that computed it: in MLflow, else to its log in Airflow."""

    name = "Produced by"


STEP_LINKS: tuple[StepLink, ...] = (MlflowRunLink(), ArtifactsLink(), VersionsLink(), ProducedByLink())


def page_link(ti: Any, airflow_version: str = airflow.__version__) -> Mapping[str, str]:
    """Return the link to a task instance's page in Airflow, beside its log.

    It is empty where Airflow's address is not known, and before Airflow 3.3, which has no such page.
    """
    page = str(getattr(ti, "log_url", "") or "").partition("?")[0]
    return {ArtifactsLink.name: f"{page}/plugin/zen-step"} if page and has_pages(airflow_version) else {}


def add_links(operator: MLStepOperator | FusedOperator, addresses: Mapping[str, str]) -> None:
    """Show buttons with these addresses once the running task has ended.

    Airflow sends a request for each link of the operator, so those without an address are left out.
    """
    operator.links |= addresses
    operator.operator_extra_links = tuple(link for link in STEP_LINKS if operator.links.get(link.name))
