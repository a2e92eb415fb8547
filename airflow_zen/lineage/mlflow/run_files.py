"""Write files to the addresses at which MLflow keeps those of its runs and models."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from airflow_zen.lineage.recorder import MAX_PREVIEWED_OUTPUTS, preview_files
from airflow_zen.runs.step_run import StepRun, StepState
from airflow_zen.transports.base import Transport, key_of_url, run_in_parallel

if TYPE_CHECKING:
    from airflow_zen.artifacts.store import PreviewStore
    from airflow_zen.lineage.mlflow.rest import MlflowRest


def put_run_files(
    artifact_uri: str, contents: Mapping[str, bytes], transport: Transport, root: str, rest: MlflowRest
) -> None:
    """Write files by name under `artifact_uri`: through the store under the artifact root, else through the server.

    Raises `SettingsError` for an address that neither can write to.
    """
    if _is_served(artifact_uri):
        _upload(artifact_uri, contents, contents.__getitem__, rest)
        return
    prefix = key_of_url(root, artifact_uri)
    run_in_parallel(lambda name: transport.write(f"{prefix}/{name}", contents[name]), contents)


def copy_files(artifact_uri: str, prefix: str, names: Iterable[str], transport: Transport, rest: MlflowRest) -> None:
    """Copy the files `names` under the key `prefix` to `artifact_uri`: in the store, or through the server.

    Raises `SettingsError` for an address that neither can write to.
    """
    if _is_served(artifact_uri):
        _upload(artifact_uri, names, lambda name: transport.read(f"{prefix}/{name}"), rest)
    else:
        transport.copy(prefix, artifact_uri, names)


def read_previews(run: StepRun, previews: PreviewStore) -> dict[str, bytes]:
    """Read the stored previews of a run's outputs; none for a hit."""
    if run.is_hit or run.state is not StepState.FINISHED:
        return {}
    outputs = islice(run.outputs.items(), MAX_PREVIEWED_OUTPUTS)
    return preview_files({output: previews.get(ref.digest) for output, ref in outputs})


def _is_served(artifact_uri: str) -> bool:
    """Whether the files of an address are read and written through the server's artifact proxy."""
    return artifact_uri.startswith(("mlflow-artifacts:", "http:", "https:"))


def _upload(artifact_uri: str, names: Iterable[str], read: Callable[[str], bytes], rest: MlflowRest) -> None:
    folder = urlsplit(artifact_uri).path.strip("/")
    run_in_parallel(lambda name: rest.upload(f"{folder}/{name}", read(name)), names)
