"""The part of BentoCloud's API that `bentoml push` uses, in memory: the real one is a service on the internet."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

TOKEN = "a-token-of-this-test"
_TIME = "2026-01-01T00:00:00Z"


class BentoCloudServer:
    """What was pushed: `resources` by path, and the bytes of each upload."""

    def __init__(self) -> None:
        self.resources: dict[str, dict[str, Any]] = {}
        self.uploads: dict[str, bytes] = {}
        self.url = ""

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        """Return the status and the body of an answer."""
        if method == "GET":
            return (200, self.resources[path]) if path in self.resources else (404, {"error": "record not found"})
        if method == "POST":
            given = json.loads(body)
            name = given.get("version") or given["name"]
            times = {"created_at": _TIME, "updated_at": _TIME, "deleted_at": None}
            made = {"uid": path, "name": name, "resource_type": "", **times, "latest_bento": None, "latest_model": None}
            uploads = dict.fromkeys(
                ("image_build_status", "upload_finished_reason", "presigned_upload_url", "presigned_download_url"), ""
            )
            self.resources[f"{path}/{name}"] = {"labels": [], **made, **uploads, **given, "upload_status": "pending"}
            self.resources[f"{path}/{name}"]["transmission_strategy"] = "proxy"
            return 200, self.resources[f"{path}/{name}"]
        of, _, verb = path.rpartition("/")
        if method == "PUT" and verb == "upload":
            self.uploads[of] = body
            self.resources[of]["upload_status"] = "success"
        return 200, self.resources[of]


@contextmanager
def bentocloud() -> Iterator[BentoCloudServer]:
    """Run the API until the block ends; it refuses other tokens."""
    cloud = BentoCloudServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self._read()
            if self.headers.get("X-YATAI-API-TOKEN") == TOKEN:
                status, answer = cloud.answer(self.command, self.path, body)
            else:
                status, answer = 401, {"error": "unauthorized"}
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_PUT = do_PATCH = do_GET  # noqa: N815

        def _read(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            read = b""
            while size := int(self.rfile.readline(), 16):
                read += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return read

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    cloud.url = f"http://127.0.0.1:{server.server_port}"
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield cloud
    finally:
        server.shutdown()
        server.server_close()
