"""KServe's Python model server with an MLflow Model, on loopback: `python -m airflow_zen.deployment.programs.kserve_server`."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from kserve.constants.constants import FASTAPI_APP_IMPORT_STRING
from kserve.errors import InvalidInput
from kserve.protocol.rest.server import RESTServer
from kserve.utils.numpy_codec import from_np_dtype

from airflow_zen.deployment.programs.served_model import BadRows, ServedModel, json_predictions, named_outputs

HOST = "127.0.0.1"


class MLflowModel(Model):
    """An MLflow Model in the protocols v1 (`instances`) and v2 (`inputs`); KServe has none of its own."""

    def __init__(self, name: str, path: str) -> None:
        super().__init__(name)
        self._model = ServedModel(path)
        self.ready = True

    async def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
        """Return the answer to a request. Meanwhile the server answers others, such as those that ask for its health."""
        try:
            return await asyncio.to_thread(self._predict, payload)
        except (ValueError, TypeError) as error:
            raise InvalidInput(str(error)) from error

    def _predict(self, payload: Any) -> Any:
        """Return the answer. Raises `ValueError` or `TypeError` for tensors that are none, and for unsuitable rows."""
        if isinstance(payload, InferRequest):
            predicted = self._model.predict_columns({each.name: each.as_numpy() for each in payload.inputs})
            outputs = [_output(name, array) for name, array in named_outputs(predicted).items()]
            return InferResponse(payload.id or str(uuid4()), self.name, outputs)
        if not isinstance(payload, Mapping) or "instances" not in payload:
            raise BadRows('The request must be {"instances": [row, …]}.')
        return {"predictions": json_predictions(self._model.predict_rows(payload["instances"]))}


def _output(name: str, array: Any) -> InferOutput:
    datatype = from_np_dtype(array.dtype)
    flat = (array.astype(str) if datatype == "BYTES" else array).flatten()
    return InferOutput(name, list(array.shape), datatype, data=flat.tolist())


def serve(name: str, path: str, port: int) -> None:
    """Serve a model until SIGTERM. KServe's own `start` would listen on every interface."""
    server = ModelServer(http_port=port, enable_grpc=False)
    server.register_model(MLflowModel(name, path))
    rest = RESTServer(FASTAPI_APP_IMPORT_STRING, server.dataplane, server.model_repository_extension, port)
    rest.config.host = HOST
    asyncio.run(rest.start())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("path")
    parser.add_argument("port", type=int)
    arguments = parser.parse_args()
    serve(arguments.name, arguments.path, arguments.port)
