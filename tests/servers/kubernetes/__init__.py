"""A Kubernetes cluster for tests: an API server that keeps state, and one node that runs pods as processes.

Faithful to Kubernetes, as the official Python clients and Airflow's provider use it:

- Every write has a `resourceVersion`; a write that is based on an old one is a conflict (409). A write that changes
  nothing makes no version. `uid`, `generation`, times and `managedFields` are the server's own.
- JSON, merge, strategic merge and apply patches; merge keys and list types are those of the published schemas. An apply
  takes no field of another manager unless forced, and removes what its manager no longer names.
- The status is a subresource: a write of one leaves the other alone.
- Lists with label and field selectors and pages; watches with selectors, bookmarks, and 410 after `compact`.
- Deletion with preconditions, finalizers, grace periods, and the three propagation policies over owner references.
- Dry runs. Tokens. Discovery, as far as the dynamic client reads it.
- Objects are validated by the published OpenAPI of Kubernetes 1.34 and the published custom resource definitions in
  `crds/`. **Every write is strict**: an unknown field is an error, also where `fieldValidation` asks for a warning.
  Pods are checked further: names, labels, quantities, volume mounts, immutable fields, the service account.
- A pod is scheduled by its requests, node selector and tolerations. Its images are a table. Its containers are processes of
  this machine (`processes`) or containers of a Docker engine (`engine`). Init containers, restarts,
  deadlines, exit codes, logs, SIGTERM and then SIGKILL, and the memory limit are real; see `node`.

Not Kubernetes: no authorization beyond the token, no admission webhooks, no CEL rules of custom resources, no defaults
of their schemas, no controllers (a Deployment or a Job stays as it was written, and a test writes the status of a custom
resource), no exec, attach or port-forward, no probes, no pod networks, no quotas. Pages of a list are not of one moment.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.servers.kubernetes.api import Answer, Api, Request
from tests.servers.kubernetes.containers import Engine
from tests.servers.kubernetes.errors import ApiError
from tests.servers.kubernetes.kinds import core_kinds, custom_kinds
from tests.servers.kubernetes.node import Image, Node
from tests.servers.kubernetes.processes import Processes
from tests.servers.kubernetes.resources import Resources
from tests.servers.kubernetes.store import Store

__all__ = ["Cluster", "Image", "kubernetes_cluster"]
_TOKEN = "a-token-of-this-test"


@dataclass
class Cluster:
    """A running cluster; requests: the method and the path of all that its server was asked."""

    url: str
    resources: Resources
    node: Node
    requests: list[tuple[str, str]] = field(default_factory=list)

    def kubeconfig(self, namespace: str = "default") -> dict[str, Any]:
        """Return the configuration that a client needs."""
        context = {"cluster": "test", "user": "test", "namespace": namespace}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": self.url}}],
            "users": [{"name": "test", "user": {"token": _TOKEN}}],
            "contexts": [{"name": "test", "context": context}],
        }

    def client(self) -> Any:
        """Return a client of the official library; close it by `with`."""
        from kubernetes.config import new_client_from_config_dict

        return new_client_from_config_dict(self.kubeconfig())

    def compact(self) -> None:
        """Forget the history of changes: a watch that resumes gets 410."""
        self.resources.store.compact()


@contextmanager
def kubernetes_cluster(directory: Path, *images: Image, engine: Engine | None = None, **node: Any) -> Iterator[Cluster]:
    """Run a cluster whose one node has the images; its containers end with it.

    directory: where pods have their files. engine: what runs containers, by default this machine. node: options of
    `Node`.
    """
    store = Store()
    resources = Resources(store, [*core_kinds(), *custom_kinds()])
    for namespace in ("default", "kube-system"):
        resources.create(resources.kind("Namespace"), "", {"metadata": {"name": namespace}})
    running = Node(resources, engine or Processes(directory), images, **node)
    server = _Server(("127.0.0.1", 0), _Handler)
    cluster = Cluster(f"http://127.0.0.1:{server.server_port}", resources, running)
    server.api, server.cluster = Api(resources, running, _TOKEN), cluster  # type: ignore[attr-defined]
    Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        with running:
            yield cluster
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that was killed."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self.server.cluster.requests.append((self.command, url.path))  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        content_type = self.headers.get("Content-Type", "application/json").partition(";")[0]
        agent = self.headers.get("User-Agent", "")
        request = Request(self.command, url.path, dict(parse_qsl(url.query)), content_type, agent, body)
        try:
            answer = self.server.api.answer(request, self.headers.get("Authorization", ""))  # type: ignore[attr-defined]
        except ApiError as error:
            answer = Answer(error.code, error.status())
        self._send(answer)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.code)
        self.send_header("Content-Type", answer.content_type)
        if answer.stream is None:
            body = json.dumps(answer.body).encode()
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        # A client that has heard enough closes its connection.
        with suppress(ConnectionError):
            for piece in answer.stream:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: Any) -> None:
        pass
