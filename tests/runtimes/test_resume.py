"""Promises that hold in every runtime: what a half-finished run has computed is not computed again."""

import pytest

from airflow_zen import load
from tests.runtimes.conftest import RUNTIMES

_FILE = """
from pathlib import Path
from airflow.sdk import dag
from airflow_zen import ml_step

def note(folder: str, name: str) -> None:
    with open(f"{folder}/calls", "a") as calls:
        calls.write(f"{name} ")

@ml_step
def rows(folder: str) -> list[int]:
    note(folder, "rows")
    return [1, 2]

@ml_step
def part(folder: str, rows: list[int], number: int) -> int:
    note(folder, f"part{number}")
    if number == 2 and not Path(folder, "ready").exists():
        raise RuntimeError("not ready")
    return sum(rows) * number

@ml_step
def total(folder: str, parts: list[int]) -> int:
    note(folder, "total")
    return sum(parts)

@dag(schedule=None)
def pipeline():
    total("FOLDER", part.partial(folder="FOLDER", rows=rows("FOLDER")).expand(number=[1, 2]))
"""
# A clear raises the number of tries that Airflow allows.
RESUMES = {
    "retry": {"try_number": 2, "is_same": True},
    "clear": {"try_number": 2, "max_tries": 1, "is_same": True},
    "trigger": {"run_id": "manual__2"},
}


# Airflow's part is the same in each runtime: each is resumed in one way, and the task's own process in all.
_WAYS = {
    "in-process": [*RESUMES],
    "python": ["clear"],
    "virtualenv": ["trigger"],
    "docker": ["retry"],
    "kubernetes": ["clear"],
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("small", "resume"), [(name, way) for name in RUNTIMES for way in _WAYS[name]], indirect=["small"]
)
def test_a_half_finished_run_is_resumed(run_file, small, root, resume):
    """A retry, a clear of what failed, and a new run compute what is missing, of a mapped step too, and nothing else."""
    # Containers have the artifact root.
    root.mkdir()
    text = _FILE.replace("FOLDER", str(root))
    first = run_file(text, small)
    assert first.states == {"rows": "success", "part[0]": "success", "part[1]": "failed"}
    assert "not ready" in str(first.task("part", 1).error)
    (root / "ready").touch()
    options = dict(RESUMES[resume])
    earlier = {"earlier": first} if options.pop("is_same", False) else {}
    second = run_file(text, small, **options, **earlier)
    assert set(second.states.values()) == {"success"}, second.tasks[-1].error
    assert load(second.xcom("total")) == 9
    assert (root / "calls").read_text() == "rows part1 part2 part2 total "
