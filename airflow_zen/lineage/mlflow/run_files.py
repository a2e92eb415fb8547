"""Files at the artifact address of an MLflow run or model, written through the store or through the server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from airflow_zen.transports.base import Transport, key_of_url, run_in_parallel

if TYPE_CHECKING:
    from airflow_zen.lineage.mlflow.rest import MlflowRest

# The addresses of files that are read and written through the server's artifact proxy.
_PROXIED = ("mlflow-artifacts:", "http:", "https:")


def put_run_files(
    artifact_uri: str, contents: Mapping[str, bytes], transport: Transport, root: str, rest: MlflowRest
) -> None:
    """Write files by name under `artifact_uri`: through the store under the artifact root, else through the server.

    Raises `SettingsError` for an address that neither can write to.
    """
    if artifact_uri.startswith(_PROXIED):
        rest.upload(artifact_uri, contents, contents.__getitem__)
    else:
        prefix = key_of_url(root, artifact_uri)
        run_in_parallel(lambda name: transport.write(f"{prefix}/{name}", contents[name]), contents)


def copy_files(artifact_uri: str, prefix: str, names: Iterable[str], transport: Transport, rest: MlflowRest) -> None:
    """Copy the files `names` under the key `prefix` to `artifact_uri`: in the store, or through the server.

    Raises `SettingsError` for an address that neither can write to.
    """
    if artifact_uri.startswith(_PROXIED):
        rest.upload(artifact_uri, names, lambda name: transport.read(f"{prefix}/{name}"))
    else:
        transport.copy(prefix, artifact_uri, names)
