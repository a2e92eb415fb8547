"""Put small files among the artifacts of an MLflow run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from airflow_zen.runs.step_run import StepRun, StepState
from airflow_zen.transports.base import Transport, key_of_url, run_in_parallel

if TYPE_CHECKING:
    from airflow_zen.artifacts.store import PreviewStore
    from airflow_zen.lineage.mlflow.rest import MlflowRest


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


PREVIEW_FOLDER = "previews"

MAX_PREVIEWED_OUTPUTS = 20
"""Of how many outputs previews are made: nobody looks at those of a thousand elements."""

_UNSAFE_FOLDER_CHARACTERS = re.compile(r"[^A-Za-z0-9_.-]+")


def preview_files(files: Mapping[str, Mapping[str, bytes]]) -> dict[str, bytes]:
    """Give the files of each output a folder of its own, `previews/<output>/`."""
    folders = _output_folders(files)
    return {
        f"{PREVIEW_FOLDER}/{folders[output]}/{name}": content
        for output, held in files.items()
        for name, content in held.items()
    }


def read_previews(run: StepRun, previews: PreviewStore) -> dict[str, bytes]:
    """Read what the store has of a run's outputs; nothing of a run that reused another's."""
    if run.is_hit or run.state is not StepState.FINISHED:
        return {}
    return preview_files(
        {output: previews.get(ref.digest) for output, ref in islice(run.outputs.items(), MAX_PREVIEWED_OUTPUTS)}
    )


def _output_folders(outputs: Iterable[str]) -> dict[str, str]:
    """Write names of outputs as folders; those that become alike are numbered."""
    found: dict[str, str] = {}
    for number, output in enumerate(outputs):
        folder = _UNSAFE_FOLDER_CHARACTERS.sub("-", output).strip(".-") or "output"
        found[output] = f"{folder}~{number}" if folder in found.values() else folder
    return found
