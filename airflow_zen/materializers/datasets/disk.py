"""Datasets to Arrow files on disk, and back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa

from airflow_zen.errors import SaveRefused
from airflow_zen.materializers.names import type_name

DATASET_FOLDER = "dataset"

_STATE_FILE = "state.json"
_EMPTY_FILE = "data-00000-of-00001.arrow"
_FINGERPRINT_KEY = "_fingerprint"


def save_huggingface_dataset(dataset: Any, directory: Path) -> Mapping[str, Any]:
    """Write the folder; raises `SaveRefused` for a subclass."""
    if type(dataset) not in (datasets.Dataset, datasets.DatasetDict):
        raise SaveRefused(f"{type_name(type(dataset))} is a subclass that would come back as its base class.")
    with _without_progress_bars():
        dataset.save_to_disk(directory / DATASET_FOLDER)
    for state in _state_files(directory):
        split = dataset if isinstance(dataset, datasets.Dataset) else dataset[state.parent.name]
        _write_empty_file(state, split)
        _write_content_fingerprint(state)
    if isinstance(dataset, datasets.DatasetDict):
        splits = ", ".join(f"{name} {held.num_rows}" for name, held in dataset.items())
        return {"shape": f"{len(dataset)} splits: {splits}"}
    columns = [{"name": name, "type": str(feature)} for name, feature in dataset.features.items()]
    shape = f"{dataset.num_rows} rows × {len(columns)} columns"
    return {"shape": shape, "rows": dataset.num_rows, "columns": columns}


def load_huggingface_dataset(directory: Path) -> Any:
    """Read what `save_huggingface_dataset` wrote."""
    with _without_progress_bars():
        loaded = datasets.load_from_disk(str(directory / DATASET_FOLDER))
    splits = loaded.values() if isinstance(loaded, datasets.DatasetDict) else [loaded]
    states = (
        [directory / DATASET_FOLDER / name for name in loaded]
        if isinstance(loaded, dict)
        else [directory / DATASET_FOLDER]
    )
    for split, folder in zip(splits, states, strict=True):
        split._fingerprint = json.loads((folder / _STATE_FILE).read_text("utf-8"))[_FINGERPRINT_KEY]  # noqa: SLF001
    return loaded


def _state_files(directory: Path) -> Iterator[Path]:
    yield from sorted((directory / DATASET_FOLDER).rglob(_STATE_FILE))


def _write_empty_file(state: Path, dataset: Any) -> None:
    """Write a file without rows where the library writes none, which it could not load."""
    held = json.loads(state.read_text("utf-8"))
    if held["_data_files"]:
        return
    with pa.ipc.new_stream(state.parent / _EMPTY_FILE, dataset.data.schema):
        held["_data_files"] = [{"filename": _EMPTY_FILE}]
    state.write_text(json.dumps(held), encoding="utf-8")


def _write_content_fingerprint(state: Path) -> None:
    """Write the fingerprint of the content in the place of one that may be of the moment."""
    held = json.loads(state.read_text("utf-8"))
    digest = hashlib.sha256()
    for file in held["_data_files"]:
        digest.update((state.parent / file["filename"]).read_bytes())
    held[_FINGERPRINT_KEY] = digest.hexdigest()[:16]
    state.write_text(json.dumps(held, indent=2, sort_keys=True), encoding="utf-8")


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    """Show no progress bars meanwhile: a task's log is no terminal."""
    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()
