"""A local target whose server needs Python's own library only: it multiplies the sum of a row by the model's factor, or by 1."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from airflow_zen import deployment
from airflow_zen.deployment import service
from airflow_zen.deployment.base import LocalTarget, Server, ServerPlace
from airflow_zen.deployment.protocols import Rows, encode_invocation
from airflow_zen.deployment.service import DeploymentService
from airflow_zen.deployment.state import StoredDeployment

KILL_AFTER_WRITE = "kill-after-write"

SERVER = """
import json, pathlib, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
file, seconds = pathlib.Path(sys.argv[2], "factor"), float(sys.argv[3])
factor = float(file.read_text()) if file.exists() else 1.0
print("loading factor", factor, flush=True)
if factor < 0:
    sys.exit("a factor is not below zero")
time.sleep(float(sys.argv[4]))
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.answer(b"ok")
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        rows = body["dataframe_split"]["data"]
        time.sleep(seconds)
        self.answer(json.dumps({"predictions": [sum(row) * factor for row in rows]}).encode())
    def answer(self, text):
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
    def log_message(self, *args):
        pass
ThreadingHTTPServer.request_queue_size = 128
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


class LightServing(LocalTarget, frozen=True):
    """Serve with a server that answers after `seconds`, and starts in `start` seconds."""

    kind: ClassVar[str] = "light"
    seconds: float = 0.0
    start: float = 0.0

    def requirements(self, model: Sequence[str]) -> list[str]:
        """Need nothing."""
        return []

    def server(self, place: ServerPlace) -> Server:
        """Return the server above."""
        script = str(place.folder / "serve.py")
        options = [str(place.ports[0]), str(place.model), str(self.seconds), str(self.start)]
        return Server(files={"serve.py": SERVER}, command=[place.python, script, *options], ready="/")

    def predict_path(self, name: str) -> str:
        """Return a path that the server answers like any other."""
        return "/invocations"

    def encode_rows(self, rows: Rows) -> Mapping[str, Any]:
        """Return a table as MLflow takes it."""
        return encode_invocation(rows)


deployment._MODULES["LightServing"] = __name__


class KilledService(DeploymentService):
    """A service that is killed between the write of a deployment and the move of its requests, if a file asks for it."""

    def _store(self, name: str, stored: StoredDeployment) -> None:
        super()._store(name, stored)
        if (self.directory / KILL_AFTER_WRITE).exists():
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    # The service decodes the target by the module's own name.
    deployment._MODULES["LightServing"] = "tests.deployment.light_target"
    service.DeploymentService = KilledService
    sys.exit(service.main())
