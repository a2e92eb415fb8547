"""Say in an annotation how an output is called, who stores it, and whether it is shown."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from airflow_zen.artifacts.version import validate_artifact_name
from airflow_zen.errors import MaterializerDefinitionError
from airflow_zen.materializers.base import Materializer, is_materializer


@dataclass(frozen=True)
class Artifact:
    """Name an output, or choose its materializer: `-> Annotated[pd.DataFrame, Artifact("features")]`.

    `name` takes the place of `<dag>/<task>`, and is one history of versions, whichever step writes it.
    `materializer` stores this output alone; on a parameter it says who reads what a materializer that is not
    registered wrote. `previews=False` makes no preview of the output, `True` one whatever the deployment says.
    Raises `ArtifactNameError` for a name that cannot be one.
    """

    name: str = ""
    _: KW_ONLY
    materializer: type[Materializer] | None = None
    previews: bool | None = None

    def __post_init__(self) -> None:
        """Refuse a name, or what is no materializer, where it is written."""
        if self.name:
            validate_artifact_name(self.name)
        if self.materializer is not None and not is_materializer(self.materializer):
            raise MaterializerDefinitionError(
                f"Artifact(materializer=…) takes a subclass of airflow_zen.Materializer that has an encoding, got "
                f"{self.materializer!r}."
            )
