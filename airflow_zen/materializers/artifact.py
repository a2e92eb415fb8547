"""Say in an annotation who stores an output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_zen.materializers.base import Materializer


@dataclass(frozen=True)
class Artifact:
    """Choose the materializer of one output: `-> Annotated[Plan, Artifact(materializer=PlanMaterializer)]`.

    On a parameter it says who reads what a materializer that is not registered wrote.
    """

    materializer: type[Materializer]
