"""The target `MLflowServing`: MLflow's own scoring server, as a process of this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from airflow_zen.deployment.base import LocalTarget, Server, ServerPlace
from airflow_zen.deployment.protocols import Rows, encode_invocation
from airflow_zen.errors import StepDefinitionError


class MLflowServing(LocalTarget, frozen=True):
    """Serve a model with MLflow's scoring server: `POST <endpoint>/invocations`.

    `workers`: the processes that predict, each with the model in memory. It runs in Airflow's own environment where the
    model was made with the versions that are installed there, otherwise in an environment of its own. `requirements`:
    what that one has beside what the model needs. Raises `StepDefinitionError` for invalid options.

    https://mlflow.org/docs/latest/ml/deployment/deploy-model-locally/
    """

    kind: ClassVar[str] = "mlflow"
    workers: int = 1
    extra_requirements: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the options where they are written."""
        workers: Any = self.workers
        if not isinstance(workers, int) or isinstance(workers, bool) or workers < 1:
            raise StepDefinitionError(f"MLflowServing(workers=…) is a number of processes, got {workers!r}.")

    def requirements(self, model: Sequence[str]) -> list[str]:
        """Return the pins of the model, of which MLflow is one."""
        return [*model, *self.extra_requirements]

    def server(self, place: ServerPlace) -> Server:
        """Return uvicorn with MLflow's app, which `mlflow models serve` runs, without its parent process."""
        where = ["--host", "127.0.0.1", "--port", str(place.ports[0]), "--workers", str(self.workers)]
        return Server(
            command=[place.python, "-m", "uvicorn", *where, "--no-access-log", "mlflow.pyfunc.scoring_server.app:app"],
            environment={"__pyfunc_model_path__": place.model.as_uri()},
            ready="/ping",
        )

    def predict_path(self, name: str) -> str:
        """Return the path of the server, which does not depend on the name of the model."""
        return "/invocations"

    def encode_rows(self, rows: Rows) -> Mapping[str, Any]:
        """Return a table as `dataframe_split`, an array as `inputs`."""
        return encode_invocation(rows)
