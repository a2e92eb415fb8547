"""Hugging Face datasets as Arrow files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from airflow_zen.errors import SaveRefused
from airflow_zen.materializers.base import Materializer, require_exact_type
from airflow_zen.materializers.previews.html import Markup, heading, hidden_note, preview_page
from airflow_zen.materializers.previews.tables import MAX_PREVIEW_COLUMNS, MAX_PREVIEW_ROWS, plain_table
from airflow_zen.type_names import type_name

DATASET_FOLDER = "dataset"

_STATE_FILE = "state.json"
_EMPTY_FILE = "data-00000-of-00001.arrow"
_FINGERPRINT_KEY = "_fingerprint"


class DatasetsMaterializer(Materializer):
    """Save a dataset, or a dict of splits, in the layout of `save_to_disk`, which `load_from_disk` reads.

    Kept: rows, features, split, format, description. The fingerprint, which is the key of the library's own cache, is
    replaced by that of the content. Refused: functions and dtypes in a format, search indexes, splits that are not
    datasets, and split names that are not valid names of folders.
    """

    types = ("datasets.arrow_dataset.Dataset", "datasets.dataset_dict.DatasetDict")
    encoding = "datasets.arrow@1"
    own_folder = True
    libraries = ("datasets", "pyarrow")
    extra = "datasets"

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        """Write `dataset/`; raises `SaveRefused` for a dataset that `save_to_disk` would not keep."""
        require_exact_type(value, *self.types)
        _check_storable(value)
        with _without_progress_bars():
            value.save_to_disk(directory / DATASET_FOLDER)
        for folder, split in _splits(value, directory):
            _complete_state(folder, split)
        if isinstance(value, dict):
            rows = ", ".join(f"{name} {split.num_rows}" for name, split in value.items())
            return {"shape": f"{len(value)} splits: {rows}"}
        columns = [{"name": name, "type": str(feature)} for name, feature in value.features.items()]
        return {"shape": f"{value.num_rows} rows × {len(columns)} columns", "rows": value.num_rows, "columns": columns}

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Map the Arrow files into memory."""
        import datasets

        with _without_progress_bars():
            loaded = datasets.load_from_disk(str(directory / DATASET_FOLDER))
        for folder, split in _splits(loaded, directory):
            split._fingerprint = json.loads((folder / _STATE_FILE).read_text("utf-8"))[_FINGERPRINT_KEY]  # noqa: SLF001
        return loaded

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show the first rows of each split."""
        sections: list[Markup] = []
        for name, split in (value if isinstance(value, dict) else {"": value}).items():
            # Arrow values: a dataset in another format would make pictures or tensors of them.
            shown = split.with_format("arrow").select_columns(split.column_names[:MAX_PREVIEW_COLUMNS])
            head = shown[:MAX_PREVIEW_ROWS]
            rows = zip(*(head.column(at).to_pylist() for at in range(head.num_columns)), strict=True)
            table = plain_table([f"{column} · {split.features[column]}" for column in head.column_names], rows)
            note = hidden_note(len(split.column_names) - MAX_PREVIEW_COLUMNS, "column")
            sections += [heading(f"{name} {split.num_rows} rows"), table, *note]
        return preview_page(value, summary, sections)


def _check_storable(dataset: Any) -> None:
    """Raise `SaveRefused` for data that `save_to_disk` does not write, or writes outside the folder."""
    if not isinstance(dataset, dict):
        return _check_split("This dataset", dataset)
    for name, split in dataset.items():
        if type(name) is not str or name in ("", ".", "..") or "/" in name:
            raise SaveRefused(f"The name {name!r} of a split cannot be that of a folder. Use one such as 'train'.")
        _check_split(f"The split {name!r}", split)
    return None


def _check_split(name: str, split: Any) -> None:
    import datasets

    if type(split) is not datasets.Dataset:
        raise SaveRefused(
            f"{name} is of type {type_name(type(split))}. Make it a datasets.Dataset, such as "
            "datasets.Dataset.from_list(list(split))."
        )
    if indexes := split.list_indexes():
        raise SaveRefused(f"{name} has the search index {indexes[0]!r}. Call drop_index, and add it where it is used.")
    try:
        json.dumps(split.format["format_kwargs"])
    except TypeError as error:
        options = ", ".join(split.format["format_kwargs"])
        raise SaveRefused(
            f"{name} has the format {split.format['type']!r} with {options}, which is not JSON. Return "
            "dataset.with_format(None), and set the format where it is used."
        ) from error


def _splits(dataset: Any, directory: Path) -> list[tuple[Path, Any]]:
    """Return the folder of each split with the split; a dataset that is no dict is the only one."""
    root = directory / DATASET_FOLDER
    return [(root / name, split) for name, split in dataset.items()] if isinstance(dataset, dict) else [(root, dataset)]


def _complete_state(folder: Path, dataset: Any) -> None:
    """Add an empty file if the library wrote none, which it could not load; set the fingerprint of the content."""
    import pyarrow as pa

    state = json.loads((folder / _STATE_FILE).read_text("utf-8"))
    if not state["_data_files"]:
        with pa.ipc.new_stream(folder / _EMPTY_FILE, dataset.data.schema):
            state["_data_files"] = [{"filename": _EMPTY_FILE}]
    digest = hashlib.sha256()
    for file in state["_data_files"]:
        digest.update((folder / file["filename"]).read_bytes())
    # The library's own fingerprint may depend on the time.
    state[_FINGERPRINT_KEY] = digest.hexdigest()[:16]
    (folder / _STATE_FILE).write_text(json.dumps(state, indent=2, sort_keys=True), encoding="utf-8")


def _without_progress_bars() -> ExitStack:
    """Disable progress bars until the end of a block: a task's log is no terminal."""
    import datasets

    block = ExitStack()
    if not datasets.are_progress_bars_disabled():
        datasets.disable_progress_bars()
        block.callback(datasets.enable_progress_bars)
    return block
