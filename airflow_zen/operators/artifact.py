"""`Artifact` in DAG files: a name in an annotation, an asset to schedule on, and an argument of a step.

Airflow is imported only for `asset`, so that annotations can be read without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.artifacts.version import LATEST, VersionSelector
from airflow_zen.errors import ArtifactNameError, InputError
from airflow_zen.materializers.annotations import Artifact as DeclaredArtifact

if TYPE_CHECKING:
    from airflow.sdk import Asset


class Artifact(DeclaredArtifact, frozen=True):
    """Name an output, and refer to it elsewhere by that name.

    `-> Annotated[pd.DataFrame, Artifact("features")]` names an output; `schedule=[Artifact("features").asset]` starts
    a DAG when its content changes; `train(Artifact("features").latest())` reads its newest version. `materializer`
    stores this output only; on a parameter it reads what an unregistered materializer wrote. `checks=[NotNull("delay")]`
    checks the output before it becomes visible; `on_failure` and `quarantine` say what happens where they fail. Raises
    `ArtifactNameError` for an invalid name.
    """

    @property
    def asset(self) -> Asset:
        """The Airflow asset that gets an event for each new content, from steps that declare no stack."""
        return self.asset_in("")

    def asset_in(self, stack: str) -> Asset:
        """Return the asset of steps that declare `stack=…`."""
        from airflow_zen.operators.assets import asset_of

        return asset_of(self._required_name(), stack)

    def latest(self) -> Any:
        """Select, as an argument of a step or of `airflow_zen.load`, the version that is the newest when it is read.

        The type is `Any`, because the argument stands for the value of the artifact.
        """
        return self.version(LATEST)

    def version(self, version: str) -> Any:
        """Select a version by its label, the start of its digest, its tag, or a date or time it is the newest at."""
        return VersionSelector(self._required_name(), version).to_wire()

    def _required_name(self) -> str:
        if not self.name:
            raise ArtifactNameError('Artifact() has no name to refer to. Write Artifact("features").')
        return self.name


def load_keyword_arguments(value: Any) -> Any:
    """Return what one task of `expand_kwargs` has as arguments: the dict in an artifact, of whichever stack, or `value`.

    Raises `InputError` for an artifact of another type.
    """
    from airflow_zen import load
    from airflow_zen.config.settings import settings_of_uri

    if not ArtifactRef.is_wire(value):
        return value
    ref = ArtifactRef.from_wire(value)
    owner = settings_of_uri(ref.uri)
    arguments = load(ref, stack=owner.stack if owner else None)
    if not isinstance(arguments, Mapping):
        raise InputError(
            f"expand_kwargs maps over dicts of arguments, and {ref.name!r} is {ref.type}. Return a list of dicts, or map "
            "one parameter over the list: expand(name=…)."
        )
    return arguments
