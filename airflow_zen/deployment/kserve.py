"""The target `KServe`: KServe's Python model server on this machine, or an InferenceService in a cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from airflow_zen.deployment.base import LocalTarget, Server, ServerPlace
from airflow_zen.deployment.protocols import Rows, encode_v2


class KServe(LocalTarget, frozen=True):
    """Serve a model with KServe, in its protocols V1 and V2: `POST <endpoint>/v2/models/NAME/infer`."""

    kind: ClassVar[str] = "kserve"
    kserve: str = "kserve>=0.21,<0.22"
    extra_requirements: tuple[str, ...] = ()

    def requirements(self, model: Sequence[str]) -> list[str]:
        """Return KServe and what the model needs; KServe needs a release of pandas that may be older than the model's."""
        return [self.kserve, *(each for each in model if not each.startswith("pandas==")), *self.extra_requirements]

    def server(self, place: ServerPlace) -> Server:
        """Return KServe's server with our model class: KServe has none for MLflow."""
        program = [place.python, "-P", "-m", "airflow_zen.deployment.programs.kserve_server"]
        return Server(
            command=[*program, place.name, str(place.model), str(place.ports[0])],
            ready=f"/v2/models/{place.name}/ready",
        )

    def predict_path(self, name: str) -> str:
        """Return the path of protocol V2."""
        return f"/v2/models/{name}/infer"

    def encode_rows(self, rows: Rows) -> Mapping[str, Any]:
        """Return a body of protocol V2."""
        return encode_v2(rows)
