"""Where the previews of what a step returned lie among the files of its run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import islice

from airflow_zen.artifacts.previews import PreviewStore
from airflow_zen.lineage.step_run import StepRun, StepState

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
    if run.cache == "hit" or run.state is not StepState.FINISHED:
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
