"""Measure saving and loading of values through a stack on a local root, beside the library that writes the plainest file.

Ours includes the hash of every file, the manifest and the commit; the others do not. Seconds are of processor time, and
nothing waits for the disk, except for large values, where both wait until it has them, and where the wait itself is measured:
these are by the wall clock.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec.structs import replace

from airflow_zen.artifacts.store import ArtifactStore
from airflow_zen.caching.step_cache import StepCache
from airflow_zen.materializers.registry import default_registry
from airflow_zen.runs.journal import RunJournals
from airflow_zen.runs.records import StepRunRecords
from airflow_zen.runs.step_run import StepRun, StepRunId, StepState
from airflow_zen.stack import Stack
from airflow_zen.transports import open_transport
from bench.measure import Row, in_turn, main, ratio_row, row, seconds

ROWS = {
    "frame_1000_save_vs_pyarrow": "a frame of 1,000 rows and 10 columns saved, over `pyarrow.parquet.write_table` of a new file",
    "frame_1000_load_vs_pyarrow": "the same loaded, verified, over `pyarrow.parquet.read_table`",
    "dict_1000_save_vs_json": "a dict of 1,000 floats saved, over `json.dumps` and writing a new file",
    "dict_1000_load_vs_json": "the same loaded, over reading the file and `json.loads`",
    "list_10000_save_vs_json": "a list of 10,000 dicts of 5 values saved, over json",
    "list_10000_load_vs_json": "the same loaded, over json",
    "frame_1000_sync_s": "what `[zen] sync_to_disk` adds to saving such a frame; wall clock",
    "journal_ms": "the journal of a step run: created, written with the plan and with the result, deleted",
    "array_save_vs_numpy": "an array of 1 GB saved, over `numpy.save` and fsync; wall clock",
    "state_dict_save_vs_safetensors": "a PyTorch state dict of 250 MB saved, over `safetensors.torch.save_file` and fsync; wall clock",
}

# A row that is measured only where these libraries are installed, as `make test-ml` does.
NEEDS = {"state_dict_save_vs_safetensors": ("safetensors", "torch")}

_LARGE_ROUNDS = 6

Change = Callable[[int], None]
Save, Load = Callable[[Path], object], Callable[[Path], object]


def rows(rounds: int) -> Iterator[Row]:
    """Yield the rows; `rounds` are those of small values."""
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        frame, facts, records = make_frame(), make_dict(), make_records()
        yield from small_rows(
            place / "frame_1000",
            *(frame, lambda number: frame.isetitem(0, np.random.default_rng(number).normal(size=1_000)), "pyarrow"),
            *(
                lambda file: pq.write_table(pa.Table.from_pandas(frame), file),
                lambda file: pq.read_table(file).to_pandas(),
            ),
            rounds,
        )
        for name, value, times in (("dict_1000", facts, rounds), ("list_10000", records, rounds // 10)):
            yield from json_rows(place / name, value, times)
        yield sync_row(place / "sync", frame, rounds // 10)
        yield journal_row(place / "journal", rounds)
        yield array_row(place / "array")
        if all(map(find_spec, NEEDS["state_dict_save_vs_safetensors"])):
            yield state_dict_row(place / "state_dict")


def json_rows(place: Path, value: Any, rounds: int) -> Iterator[Row]:
    """Yield the rows of a value that is plain JSON."""

    def change(number: int) -> None:
        (value if isinstance(value, dict) else value[0])["number"] = number

    def save(file: Path) -> None:
        file.write_text(json.dumps(value))

    return small_rows(place, value, change, "json", save, lambda file: json.loads(file.read_text()), rounds)


def small_rows(
    place: Path, value: Any, change: Change, other: str, save: Save, load: Load, rounds: int
) -> Iterator[Row]:
    """Yield the rows of saving, of another value each time, and of loading."""
    stack, file, into = make_stack(place), place / "other", place / "into"
    into.mkdir()

    def prepare(number: int) -> None:
        # A new file each time, as an artifact is: what overwrites one spares the filesystem most of its work.
        file.rename(place / f"other-{number}") if file.exists() else None
        change(number)

    pairs = in_turn(lambda: stack.save(value), lambda: save(file), rounds, prepare)
    yield ratio_row(f"{place.name}_save_vs_{other}", pairs)
    ref = stack.save(value).ref
    pairs = in_turn(lambda: stack.load(ref, into, type(value)), lambda: load(file), rounds)
    yield ratio_row(f"{place.name}_load_vs_{other}", pairs)


def sync_row(place: Path, frame: pd.DataFrame, rounds: int) -> Row:
    """Return the row of what a save takes longer that waits until the disk has the files and their names."""
    place.mkdir()
    synced, other = (make_stack(place / str(sync), sync_to_disk=sync) for sync in (True, False))
    found = []
    for number in range(rounds + 1):
        frame.isetitem(0, np.random.default_rng(number).normal(size=1_000))
        took, usual = (seconds(lambda stack=stack: stack.save(frame), perf_counter) for stack in (synced, other))
        found.append(took - usual)
    return row("frame_1000_sync_s", found[1:], "s")


def journal_row(place: Path, rounds: int) -> Row:
    """Return the row of what a computed step writes into its journal."""
    journals = RunJournals(open_transport(str(place), {}))
    run = StepRun(StepRunId("dag", "run", "task", -1, 1), parameters={"depth": 8, "rate": 0.1})

    def write() -> None:
        journals.open(run)
        journals.write(run)
        journals.write(replace(run, state=StepState.FINISHED))
        journals.delete(run)

    return row("journal_ms", [seconds(write) * 1_000 for _ in range(rounds + 1)][1:], "ms")


def large_row(name: str, place: Path, value: Any, change: Change, save: Save) -> Row:
    """Return the row of saving a large value in wall time; the disk has neither file before a round, and has both after it."""
    stack, file, pairs = make_stack(place, sync_to_disk=True), place / "other", []

    def save_other() -> None:
        save(file)
        with file.open("rb") as opened:
            os.fsync(opened)

    for number in range(_LARGE_ROUNDS):
        change(number)
        pairs.append((seconds(lambda: stack.save(value), perf_counter), seconds(save_other, perf_counter)))
        shutil.rmtree(place / "root" / "artifacts")
        file.unlink()
    return ratio_row(name, pairs[1:])


def array_row(place: Path) -> Row:
    """Return the row of an array of 1 GB."""
    array = np.random.default_rng(0).random(125_000_000)

    def save(file: Path) -> None:
        with file.open("wb") as opened:
            np.save(opened, array)

    return large_row("array_save_vs_numpy", place, array, lambda number: array.put(0, number), save)


def state_dict_row(place: Path) -> Row:
    """Return the row of a state dict of 50 layers, 250 MB."""
    import torch
    from safetensors.torch import save_file

    state = {f"layer{number}.weight": torch.rand(1250, 1000) for number in range(50)}

    def change(number: int) -> None:
        state["layer0.weight"][0, 0] = number

    return large_row("state_dict_save_vs_safetensors", place, state, change, lambda file: save_file(state, file))


def make_stack(place: Path, *, sync_to_disk: bool = False) -> Stack:
    """Return a stack whose root is in a new directory."""
    root = str(place / "root")
    place.mkdir()
    transport = open_transport(root, {}, sync_to_disk=sync_to_disk)
    return Stack(ArtifactStore(root, transport), default_registry(), StepCache(transport), StepRunRecords(transport))


def make_frame() -> pd.DataFrame:
    """Return 1,000 rows of 8 floats, an integer and a name."""
    random = np.random.default_rng(0)
    numbers = {f"x{at}": random.normal(size=1_000) for at in range(8)}
    names = random.choice(["red", "green", "blue"], 1_000)
    return pd.DataFrame({**numbers, "n": random.integers(0, 100, 1_000), "name": names})


def make_dict() -> dict[str, Any]:
    """Return 1,000 floats by name."""
    random = Random(0)
    return {f"key_{at}": random.random() for at in range(1_000)}


def make_records() -> list[dict[str, Any]]:
    """Return 10,000 dicts of 5 values."""
    random = Random(0)
    return [
        {"id": at, "name": f"name {at}", "score": random.random(), "tags": ["a", "b"], "ok": True}
        for at in range(10_000)
    ]


if __name__ == "__main__":
    main(__doc__, rows, rounds=300)
