"""Put small files among the artifacts of an MLflow run."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from airflow_zen.artifacts.parallel import run_in_parallel
from airflow_zen.artifacts.root import key_of_url
from airflow_zen.artifacts.transport import Transport
from airflow_zen.lineage.rest import MlflowRest


def put_run_files(
    artifact_uri: str, contents: Mapping[str, bytes], transport: Transport, root: str, rest: MlflowRest
) -> None:
    """Store files by name under a run's `artifact_uri`: ours to write under the artifact root, the server's elsewhere.

    Raises `SettingsError` where the experiment keeps its files at an address that neither reaches.
    """
    if artifact_uri.startswith(("mlflow-artifacts:", "http:", "https:")):
        folder = urlsplit(artifact_uri).path.strip("/")
        run_in_parallel(lambda name: rest.upload(f"{folder}/{name}", contents[name]), contents)
        return
    prefix = key_of_url(root, artifact_uri)
    run_in_parallel(lambda name: transport.write(f"{prefix}/{name}", contents[name]), contents)
