"""Hugging Face datasets as Arrow files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_zen.errors import SaveRefused
from airflow_zen.materializers.base import Materializer
from airflow_zen.materializers.previews.html import PREVIEW_HTML, Markup, heading, html_page
from airflow_zen.materializers.previews.tables import (
    MAX_PREVIEW_COLUMNS,
    MAX_PREVIEW_ROWS,
    hidden_columns_note,
    plain_table,
)
from airflow_zen.type_names import type_name

if TYPE_CHECKING:
    pass


class DatasetsMaterializer(Materializer):
    """Save a dataset, or a dict of splits, the way `save_to_disk` lays it out; `load_from_disk` reads it too.

    Kept: rows, features, split, format, description. The fingerprint, the key of the library's own cache,
    becomes that of the content.
    """

    types = ("datasets.arrow_dataset.Dataset", "datasets.dataset_dict.DatasetDict")
    encoding = "datasets.arrow@1"
    own_folder = True
    libraries = ("datasets", "pyarrow")
    extra = "datasets"

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        """Write `dataset/`."""
        return save_huggingface_dataset(value, directory)

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show the first rows of each split."""
        return preview_huggingface_dataset(value, summary)

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Map the Arrow files into memory."""
        return load_huggingface_dataset(directory)


DATASET_FOLDER = "dataset"

_STATE_FILE = "state.json"
_EMPTY_FILE = "data-00000-of-00001.arrow"
_FINGERPRINT_KEY = "_fingerprint"


def save_huggingface_dataset(dataset: Any, directory: Path) -> Mapping[str, Any]:
    """Write the folder; raises `SaveRefused` for a subclass."""
    import datasets

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
    import datasets

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
    import pyarrow as pa

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
    import datasets

    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


def preview_huggingface_dataset(value: Any, summary: Mapping[str, Any]) -> Mapping[str, str]:
    """Show a dataset, or each split of a dict of them."""
    splits = value if isinstance(value, dict) else {"": value}
    return {PREVIEW_HTML: html_page(type(value).__qualname__, str(summary.get("shape", "")), _split_sections(splits))}


def _split_sections(splits: Mapping[str, Any]) -> Iterator[Markup]:
    for name, split in splits.items():
        yield heading(f"{name} {split.num_rows} rows")
        # As Arrow holds it: what is formatted as a picture or a tensor is not made into one.
        head = split.with_format("arrow").select_columns(split.column_names[:MAX_PREVIEW_COLUMNS])[:MAX_PREVIEW_ROWS]
        rows = zip(*(head.column(at).to_pylist() for at in range(head.num_columns)), strict=True)
        yield plain_table([f"{column} · {split.features[column]}" for column in head.column_names], rows)
        yield from hidden_columns_note(len(split.column_names) - MAX_PREVIEW_COLUMNS)
