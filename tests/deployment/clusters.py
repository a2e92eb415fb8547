"""A cluster in which models are deployed: a controller that loads them, and servers that predict."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from kubernetes.client import CustomObjectsApi
from kubernetes.client.rest import ApiException

from tests.servers.kubernetes import Cluster

KSERVE = ("serving.kserve.io", "v1beta1", "default", "inferenceservices")
SELDON = ("mlops.seldon.io", "v1alpha1", "default", "models")
SELDON_1 = ("machinelearning.seldon.io", "v1", "default", "seldondeployments")


@dataclass
class Controller:
    """What a serving system does, as far as deployments see it.

    A model is a factor, by its address in the store, and predicts the factor times the sum of a row. One without a factor
    is never loaded, and one that is None cannot be loaded. Statuses are written to the status subresource. traffic: the
    addresses of the models whose predictions were requested, by the name of the object. paused: whether it does nothing.
    """

    cluster: Cluster
    factors: dict[str, float | None] = field(default_factory=dict)
    traffic: list[tuple[str, str]] = field(default_factory=list)
    paused: bool = False
    url: str = ""

    def objects(self, place: tuple[str, ...] = KSERVE) -> dict[str, dict[str, Any]]:
        """Return the objects of a kind by name."""
        kind = next(each for each in self.cluster.resources.kinds if each.plural == place[3])
        found = self.cluster.resources.store.find(kind, place[2], lambda _: True)
        return {each["metadata"]["name"]: each for each in found}

    def uri(self, name: str, place: tuple[str, ...] = KSERVE) -> str:
        """Return the address of the model that an object serves."""
        return _uri(self.objects(place)[name])

    def reconcile(self, custom: CustomObjectsApi) -> None:
        """Write the status of each object whose specification has changed."""
        for place in (KSERVE, SELDON, SELDON_1):
            for name, found in self.objects(place).items():
                status = self._status(place, found)
                if status and found.get("status", {}).get("observedGeneration") != status["observedGeneration"]:
                    # It may have been deleted meanwhile.
                    with suppress(ApiException):
                        custom.patch_namespaced_custom_object_status(*place, name, {"status": status})

    def predict(self, name: str, body: Mapping[str, Any]) -> list[float]:
        """Return the predictions of the model that an object serves."""
        found = {**self.objects(KSERVE), **self.objects(SELDON), **self.objects(SELDON_1)}[name]
        self.traffic.append((name, _uri(found)))
        rows = zip(*(each["data"] for each in body["inputs"]), strict=True)
        factor = self.factors[_uri(found)] or 0
        return [sum(row) * factor for row in rows]

    def _status(self, place: tuple[str, ...], found: Mapping[str, Any]) -> dict[str, Any] | None:
        uri = _uri(found)
        if uri not in self.factors or self.paused:
            return None
        seen = {"observedGeneration": found["metadata"]["generation"]}
        is_loaded = "True" if self.factors[uri] is not None else "False"
        if place == SELDON_1:
            state = {"state": "Available", "address": {"url": f"{self.url}/api/v1.0/predictions"}}
            return {
                **seen,
                **(state if self.factors[uri] is not None else {"state": "Failed", "description": "no model"}),
            }
        reason = {} if self.factors[uri] is not None else {"reason": "ModelFailed", "message": "no model"}
        if place == SELDON:
            return {**seen, "conditions": [{"type": "ModelReady", "status": is_loaded, **reason}]}
        model: dict[str, Any] = {"transitionStatus": "UpToDate"}
        if self.factors[uri] is None:
            failure = {"reason": "ModelLoadFailed", "message": "the files are damaged"}
            model = {"transitionStatus": "BlockedByFailedLoad", "lastFailureInfo": failure}
        condition = {"type": "Ready", "status": is_loaded, "reason": "Predictor", "message": "of the controller"}
        return {**seen, "url": self.url, "modelStatus": model, "conditions": [condition]}


@contextmanager
def controlled(cluster: Cluster) -> Iterator[Controller]:
    """Run a controller, and the servers of its models, until the block ends."""
    controller, ended = Controller(cluster), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            name = self.path.partition("/models/")[2].partition("/")[0]
            predicted = controller.predict(name, body)
            output = {"name": "predict", "shape": [len(predicted)], "datatype": "FP64", "data": predicted}
            answer = json.dumps({"outputs": [output]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    def reconcile() -> None:
        with cluster.client() as client:
            custom = CustomObjectsApi(client)
            while not ended.wait(0.02):
                controller.reconcile(custom)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    controller.url = f"http://127.0.0.1:{server.server_port}"
    threads = [threading.Thread(target=run, daemon=True) for run in (server.serve_forever, reconcile)]
    for thread in threads:
        thread.start()
    try:
        yield controller
    finally:
        ended.set()
        server.shutdown()
        server.server_close()
        for thread in threads:
            thread.join()


def _uri(found: Mapping[str, Any]) -> str:
    spec = found["spec"]
    if "predictors" in spec:
        return str(spec["predictors"][0]["graph"]["modelUri"])
    return str(spec["predictor"]["model"]["storageUri"] if "predictor" in spec else spec["storageUri"])
