"""The digest of an image, which its name has or its registry is asked for."""

from __future__ import annotations

import base64
import json
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from airflow_zen.errors import FingerprintError, RuntimeUnavailable

_DOCKER_HUB = "registry-1.docker.io"
_TIMEOUT = 30
_MANIFESTS = ", ".join(
    f"application/vnd.{kind}"
    for kind in (
        "oci.image.index.v1+json",
        "docker.distribution.manifest.list.v2+json",
        "oci.image.manifest.v1+json",
        "docker.distribution.manifest.v2+json",
    )
)
# What registries told this process; a pod runs the image that is in its key.
_digests: dict[str, str] = {}


def known_digest(image: str, registry_conn_id: str) -> str:
    """Return the digest of an image, for which a registry is asked once. Raises `FingerprintError`."""
    if image not in _digests:
        try:
            _digests[image] = image_digest(image, *_login(registry_conn_id))
        except RuntimeUnavailable as error:
            raise FingerprintError(
                f"{error} Name the image by its digest, or a connection with the login to its registry with "
                "registry_conn_id=."
            ) from error
    return _digests[image]


def image_of_key(image: str) -> str:
    """Return the name of an image by its digest where `known_digest` knows it, and else its name."""
    digest = _digests.get(image, "")
    return pinned_image(image, digest) if digest else image


def image_digest(image: str, login: str = "", password: str = "") -> str:
    """Return the digest of an image, `sha256:…`, from its name, or else from its registry.

    Raises `RuntimeUnavailable` if the registry does not answer, refuses the login, or does not have the image.
    """
    _, _, digest = image.partition("@")
    if digest:
        return digest
    registry, name, tag = _parts(image)
    scheme = "http" if registry.partition(":")[0] in ("localhost", "127.0.0.1") else "https"
    url = f"{scheme}://{registry}/v2/{name}/manifests/{tag}"
    basic = "Basic " + base64.b64encode(f"{login}:{password}".encode()).decode() if login else ""
    try:
        found = _ask(url, basic, name)
    except (OSError, ValueError) as error:
        raise RuntimeUnavailable(
            f"The registry {registry} does not return the digest of {image!r}: {error}."
        ) from error
    if not found:
        raise RuntimeUnavailable(f"The registry {registry} gave {image!r} no digest.")
    return found


def pinned_image(image: str, digest: str) -> str:
    """Return the name of an image by its digest, without its tag."""
    name = image.partition("@")[0]
    head, slash, last = name.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}@{digest}"


def _login(conn_id: str) -> tuple[str, str]:
    if not conn_id:
        return "", ""
    from airflow.sdk import BaseHook

    connection = BaseHook.get_connection(conn_id)
    return connection.login or "", connection.password or ""


def _parts(image: str) -> tuple[str, str, str]:
    """Return the registry, the name and the tag of an image, as Docker parses it."""
    first, slash, rest = image.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        first, rest = "docker.io", image
    name, _, tag = rest.partition(":")
    if first == "docker.io":
        first, name = _DOCKER_HUB, name if "/" in name else f"library/{name}"
    return first, name, tag or "latest"


def _ask(url: str, basic: str, name: str) -> str:
    headers = {"Accept": _MANIFESTS}
    try:
        return str(_open(url, headers, "HEAD").headers["Docker-Content-Digest"] or "")
    except urllib.error.HTTPError as error:
        if error.code != 401:
            raise
        challenge = error.headers.get("WWW-Authenticate", "")
    headers["Authorization"] = _authorization(challenge, basic, name)
    return str(_open(url, headers, "HEAD").headers["Docker-Content-Digest"] or "")


def _authorization(challenge: str, basic: str, name: str) -> str:
    """Return the header that a registry requires: a token from its token service, or the login itself."""
    if not challenge.lower().startswith("bearer "):
        return basic
    wanted = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    query = {"service": wanted.get("service", ""), "scope": wanted.get("scope") or f"repository:{name}:pull"}
    answer = _open(f"{wanted['realm']}?{urlencode(query)}", {"Authorization": basic} if basic else {}, "GET")
    document = json.loads(answer.read())
    return f"Bearer {document.get('token') or document['access_token']}"


def _open(url: str, headers: Mapping[str, str], method: str) -> Any:
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{url!r} is no HTTP URL")
    request = urllib.request.Request(url, headers=dict(headers), method=method)  # noqa: S310 - checked
    return urllib.request.urlopen(request, timeout=_TIMEOUT)  # noqa: S310 - checked
