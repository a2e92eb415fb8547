"""Who may see what: Airflow's auth manager, asked for each DAG; what may not be seen does not exist."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Annotated, Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import GetUserDep
from airflow.models import DagModel
from airflow.utils.session import create_session
from fastapi import Depends, HTTPException, Path, Query
from sqlalchemy import select

# A name of Airflow's or ours: no control character, which neither has and databases refuse.
_NAME = r"^[^\x00-\x1f\x7f]+$"
Name = Annotated[str, Query(min_length=1, max_length=750, pattern=_NAME)]
OptionalName = Annotated[str, Query(max_length=750, pattern=r"^[^\x00-\x1f\x7f]*$")]


class Access:
    """What the user of one request may see; each DAG is asked about once."""

    def __init__(self, user: Any) -> None:
        self._user = user
        self._known: dict[tuple[str, DagAccessEntity | None], bool] = {}

    def may_read(self, dag_id: str, entity: DagAccessEntity | None = DagAccessEntity.RUN) -> bool:
        """Whether the user may read a DAG, and its runs or another part of it; False for a DAG without a name."""
        if not dag_id:
            return False
        if (dag_id, entity) not in self._known:
            self._known[dag_id, entity] = get_auth_manager().is_authorized_dag(
                method="GET",
                access_entity=entity,
                details=DagDetails(id=dag_id, team_name=DagModel.get_team_name(dag_id)),
                user=self._user,
            )
        return self._known[dag_id, entity]

    def may_read_content(self, dag_id: str) -> bool:
        """Whether the user may read what the steps of a DAG returned."""
        return self.may_read(dag_id) and self.may_read(dag_id, DagAccessEntity.XCOM)

    def may_read_origin(self, origin: str) -> bool:
        """Whether the user may read what a step run made, `dag/run/task/map index/try`.

        What no step run made belongs to no DAG, and is for those who may read every DAG.
        """
        return self.may_read_content(origin.partition("/")[0]) if origin else self.may_read_every_dag

    @cached_property
    def may_read_every_dag(self) -> bool:
        """Whether the user may read every DAG of Airflow's database."""
        readable = get_auth_manager().get_authorized_dag_ids(user=self._user)
        with create_session() as session:
            return readable.issuperset(session.scalars(select(DagModel.dag_id)))


def _access(user: GetUserDep) -> Access:
    return Access(user)


RequestAccess = Annotated[Access, Depends(_access)]


def not_found() -> HTTPException:
    """Return the answer for what does not exist, or may not be seen."""
    return HTTPException(404, "This does not exist, or you may not see it.")


def dag_with(*entities: DagAccessEntity) -> Callable[..., str]:
    """Return a dependency: the DAG of the path, if the user may read it and these parts of it."""

    def readable_dag(access: RequestAccess, dag_id: Annotated[str, Path(max_length=250, pattern=_NAME)]) -> str:
        if not all(access.may_read(dag_id, entity) for entity in (None, *entities)):
            raise not_found()
        return dag_id

    return readable_dag


RunsOfDag = Annotated[str, Depends(dag_with(DagAccessEntity.RUN, DagAccessEntity.TASK_INSTANCE))]
ContentOfDag = Annotated[
    str, Depends(dag_with(DagAccessEntity.RUN, DagAccessEntity.TASK_INSTANCE, DagAccessEntity.XCOM))
]
CodeOfDag = Annotated[str, Depends(dag_with(DagAccessEntity.RUN, DagAccessEntity.CODE))]
