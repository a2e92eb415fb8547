"""Promises of the digest of an image: a registry's answer, over HTTP."""

from __future__ import annotations

import base64
import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, urlsplit

import pytest

from airflow_zen.errors import RuntimeUnavailable
from airflow_zen.runtimes.image_digest import _parts, image_digest, pinned_image

DIGEST = f"sha256:{'7' * 64}"


@contextmanager
def registry_server(challenge="", login=""):
    """A registry with the image `team/train:1`; `challenge`: the way in which it asks for a login."""

    class Registry(BaseHTTPRequestHandler):
        def do_HEAD(self):
            if not self._is_allowed():
                self.send_response(401)
                self.send_header("WWW-Authenticate", challenge.format(port=server.server_port))
            elif self.path == "/v2/team/train/manifests/1" and "oci.image.index" in self.headers["Accept"]:
                self.send_response(200)
                self.send_header("Docker-Content-Digest", DIGEST)
            else:
                self.send_response(404)
            self.end_headers()

        def do_GET(self):
            asked = parse_qs(urlsplit(self.path).query)
            assert asked == {"service": ["registry"], "scope": ["repository:team/train:pull"]}
            is_known = self.headers.get("Authorization", "") == login
            self.send_response(200 if is_known else 401)
            self.end_headers()
            self.wfile.write(json.dumps({"token": "a-token"}).encode())

        def _is_allowed(self):
            wanted = {"": "", "Bear": "Bearer a-token", "Basi": login}[challenge[:4]]
            return self.headers.get("Authorization", "") == wanted

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


BEARER = 'Bearer realm="http://127.0.0.1:{port}/token",service="registry",scope="repository:team/train:pull"'
LOGIN = "Basic " + base64.b64encode(b"me:hidden").decode()


@pytest.mark.parametrize(
    ("challenge", "login", "credentials"),
    [
        ("", "", ()),
        (BEARER, "", ()),
        (BEARER, LOGIN, ("me", "hidden")),
        ("Basic realm=x", LOGIN, ("me", "hidden")),
    ],
)
def test_a_registry_tells_the_digest_of_a_tag(challenge, login, credentials):
    """The digest of a tag is read with no login, with a token for it, and with a password."""
    with registry_server(challenge, login) as address:
        assert image_digest(f"{address}/team/train:1", *credentials) == DIGEST


def test_a_digest_in_the_name_asks_nobody():
    """An image that is named by its digest has that one."""
    assert image_digest(f"nowhere.invalid/team/train:1@{DIGEST}") == DIGEST


def test_what_a_registry_does_not_tell_is_an_error():
    """A tag that is not there, a wrong login and a registry that is away are each said."""
    with registry_server(BEARER, LOGIN) as address:
        for image, credentials, said in (
            (f"{address}/team/train:2", ("me", "hidden"), "404"),
            (f"{address}/team/train:1", ("me", "wrong"), "401"),
        ):
            with pytest.raises(RuntimeUnavailable, match=said):
                image_digest(image, *credentials)
    with pytest.raises(RuntimeUnavailable, match=r"does not return the digest of 'localhost:1/train:1'"):
        image_digest("localhost:1/train:1")


@pytest.mark.parametrize(
    ("image", "parts"),
    [
        ("python", ("registry-1.docker.io", "library/python", "latest")),
        ("python:3.11", ("registry-1.docker.io", "library/python", "3.11")),
        ("team/train:1", ("registry-1.docker.io", "team/train", "1")),
        ("docker.io/team/train", ("registry-1.docker.io", "team/train", "latest")),
        ("ghcr.io/a/b/c:1", ("ghcr.io", "a/b/c", "1")),
        ("localhost:5000/train", ("localhost:5000", "train", "latest")),
    ],
)
def test_names_are_read_as_docker_reads_them(image, parts):
    """The registry, the name and the tag of an image."""
    assert _parts(image) == parts


def test_an_image_is_named_by_its_digest():
    """A tag gives way to the digest; the port of a registry is no tag."""
    assert pinned_image("localhost:5000/team/train:1", DIGEST) == f"localhost:5000/team/train@{DIGEST}"
    assert pinned_image("python", DIGEST) == f"python@{DIGEST}"
