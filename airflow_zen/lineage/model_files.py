"""Bring a stored model's files to where MLflow serves them from."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from urllib.parse import urlsplit

from airflow_zen.artifacts.manifest import MANIFEST_FILE_NAME, Manifest
from airflow_zen.artifacts.parallel import run_in_parallel
from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.artifacts.root import key_of_url
from airflow_zen.artifacts.transport import Transport
from airflow_zen.errors import SettingsError
from airflow_zen.lineage.rest import MlflowRest

log = logging.getLogger("airflow_zen.lineage")


def copy_model_files(ref: ArtifactRef, artifact_uri: str, transport: Transport, root: str, rest: MlflowRest) -> bool:
    """Fill a logged model's `artifact_uri` with the files of the artifact; tell whether MLflow has them now.

    Under our own root the store copies (or links) them itself. An experiment that others made may
    keep files elsewhere: behind the server's proxy they are uploaded, anywhere else they stay ours.
    """
    prefix = key_of_url(root, ref.uri)
    names = _artifact_paths(ref, prefix, transport)
    try:
        copy_files(artifact_uri, prefix, names, transport, rest)
    except SettingsError:
        log.warning(
            "MLflow keeps this experiment's files at %r, outside the artifact root %r: the model %s is registered "
            "at its own address instead. Rename the experiment in MLflow to have a new one made under the root.",
            artifact_uri,
            root,
            ref.name,
        )
        return False
    return True


def copy_files(artifact_uri: str, prefix: str, names: Iterable[str], transport: Transport, rest: MlflowRest) -> None:
    """Bring the files `names` under `prefix` to an address of MLflow's: the store copies, or the server takes them.

    Raises `SettingsError` where neither reaches it.
    """
    if artifact_uri.startswith(("mlflow-artifacts:", "http:", "https:")):
        folder = urlsplit(artifact_uri).path.strip("/")
        run_in_parallel(lambda name: rest.upload(f"{folder}/{name}", transport.read(f"{prefix}/{name}")), names)
        return
    transport.copy(prefix, artifact_uri, names)


def _artifact_paths(ref: ArtifactRef, prefix: str, transport: Transport) -> list[str]:
    """Name the artifact's files; a ref that came through XCom carries only the first two."""
    if ref.files:
        return [file.path for file in ref.files]
    manifest = Manifest.from_json(transport.read(f"{prefix}/{MANIFEST_FILE_NAME}"), ref.digest)
    return [file.path for file in manifest.files]
