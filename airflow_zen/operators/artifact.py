"""`Artifact` as DAG files know it: a name in an annotation, an asset to schedule on, an argument of a step.

Nothing here needs Airflow before `asset` is asked for, so that annotations are read without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_zen.artifacts.version import LATEST, VersionSelector
from airflow_zen.errors import ArtifactNameError
from airflow_zen.materializers.annotations import Artifact as DeclaredArtifact

if TYPE_CHECKING:
    from airflow.sdk import Asset


@dataclass(frozen=True)
class Artifact(DeclaredArtifact):
    """Name an output, and speak of it elsewhere by that name.

    `-> Annotated[pd.DataFrame, Artifact("features")]` names what a step gives; `schedule=[Artifact("features").asset]`
    starts a DAG when its content changes; `train(Artifact("features").latest())` reads its newest version.
    `materializer` stores this output alone; on a parameter it says who reads what a materializer that is not
    registered wrote. Raises `ArtifactNameError` for a name that cannot be one.
    """

    @property
    def asset(self) -> Asset:
        """The Airflow asset that has an event for each new content, made by steps that declare no stack."""
        return self.asset_in("")

    def asset_in(self, stack: str) -> Asset:
        """Give the asset of steps that declare `stack=…`."""
        from airflow_zen.operators.assets import asset_of

        return asset_of(self._required_name(), stack)

    def latest(self) -> dict[str, Any]:
        """Ask, as an argument of a step or of `airflow_zen.load`, for the version that is the newest when it is read."""
        return self.version(LATEST)

    def version(self, version: str) -> dict[str, Any]:
        """Ask for the version of a label, a digest's beginning, a tag, or the newest at or before a date or time."""
        return VersionSelector(self._required_name(), version).to_wire()

    def _required_name(self) -> str:
        if not self.name:
            raise ArtifactNameError('Artifact() has no name to speak of it by. Write Artifact("features").')
        return self.name
