"""Source files are summarized once: in a process, and on a worker's disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from airflow_zen.caching.code import fingerprint_code, source, syntax
from tests.caching.code.project import Project

FILES = {
    "flow.py": "from helpers import clean\ndef step(x):\n    return clean(x)\n",
    "helpers.py": "def clean(x):\n    return x\n",
}
REPORT = (
    "import sys, json; sys.path.insert(0, {folder!r}); import flow; from airflow_zen.caching.code import fingerprint_code;"
    "print(json.dumps(dict(fingerprint_code(flow.step).ingredients)))"
)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """The texts that are summarized; with an empty folder for temporary files, and nothing read yet."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    texts: list[str] = []
    original = syntax.summarize
    monkeypatch.setattr(syntax, "summarize", lambda text, flags: texts.append(text) or original(text, flags))
    forget()
    yield texts
    forget()


def forget() -> None:
    """Forget what this process has read, as a new process has."""
    source._files.clear()
    source._parse.cache_clear()


def stored(tmp_path: Path) -> list[Path]:
    """Return the files that are kept on disk."""
    return sorted((tmp_path / "temporary").glob("zen-code-*/*"))


def test_file_is_summarized_once_in_a_process(made: list[str], tmp_path: Path) -> None:
    """Fingerprinting a second time reads and summarizes no file again."""
    with Project(tmp_path / "a", FILES).imported() as flow:
        assert fingerprint_code(flow.step) == fingerprint_code(flow.step)
    assert sorted(made) == sorted(FILES.values())


def test_file_is_summarized_once_on_a_disk(made: list[str], tmp_path: Path) -> None:
    """A later process, and another checkout of the same text, take the summaries from the disk."""
    first = Project(tmp_path / "a", FILES).code()
    forget()
    assert Project(tmp_path / "b", FILES).code() == first
    assert sorted(made) == sorted(FILES.values())


def test_edited_file_is_summarized_again(made: list[str], tmp_path: Path) -> None:
    """An edit with the same size and time gives another key: the code that runs is compared with the text."""
    project = Project(tmp_path / "a", FILES)
    before, times = project.key(), os.stat(tmp_path / "a" / "helpers.py")
    (tmp_path / "a" / "helpers.py").write_text("def clean(x):\n    return 7\n")
    os.utime(tmp_path / "a" / "helpers.py", ns=(times.st_atime_ns, times.st_mtime_ns))
    for cached in (tmp_path / "a" / "__pycache__").glob("helpers*"):
        cached.unlink()
    assert project.key() != before
    assert len(made) == 3


@pytest.mark.parametrize("damage", [b"", b"short", b"0" * 400, None], ids=["empty", "short", "other", "one bit"])
def test_damaged_summary_is_made_again(damage: bytes | None, made: list[str], tmp_path: Path) -> None:
    """What was damaged on the disk is not believed, and is replaced."""
    project = Project(tmp_path / "a", FILES)
    before = project.code()
    for path in stored(tmp_path):
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]) if damage is None else damage)
    forget()
    assert project.code() == before
    assert len(made) == 4
    forget()
    assert project.code() == before
    assert len(made) == 4


@pytest.mark.parametrize("kind", ["writable", "link", "file"])
def test_directory_that_others_may_write_is_not_used(kind: str, made: list[str], tmp_path: Path) -> None:
    """Summaries are neither read nor written where another user could put them."""
    folder, elsewhere = tmp_path / "temporary" / f"zen-code-{os.geteuid()}", tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    if kind == "writable":
        folder.mkdir()
        folder.chmod(0o770)
    elif kind == "link":
        folder.symlink_to(elsewhere)
    else:
        folder.write_text("")
    project = Project(tmp_path / "a", FILES)
    project.code()
    forget()
    project.code()
    assert len(made) == 4
    assert not stored(tmp_path)
    assert not list(elsewhere.iterdir())


def test_directory_is_private(made: list[str], tmp_path: Path) -> None:
    """No other user can read or write the summaries."""
    Project(tmp_path / "a", FILES).code()
    assert [path.parent.stat().st_mode & 0o777 for path in stored(tmp_path)] == [0o700, 0o700]


def test_disk_is_bounded(made: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest summaries are removed before there are too many; a very large one is not kept."""
    monkeypatch.setattr(source, "_MAX_STORED", 6)
    for number in range(20):
        Project(tmp_path / str(number), {"flow.py": f"def step(x):\n    return x + {number}\n"}).code()
        assert 0 < len(stored(tmp_path)) <= 6
    monkeypatch.setattr(source, "_MAX_STORED_BYTES", 10)
    before = stored(tmp_path)
    Project(tmp_path / "large", {"flow.py": "def step(x):\n    return x\n"}).code()
    assert stored(tmp_path) == before


def test_unwritable_disk_costs_nothing_but_time(
    made: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a folder for temporary files the key is the same."""
    project = Project(tmp_path / "a", FILES)
    before = project.code()
    forget()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    assert project.code() == before


def test_concurrent_processes_agree(tmp_path: Path) -> None:
    """Processes that start at once on an empty disk give the same key, and leave whole files."""
    Project(tmp_path / "a", FILES)
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", REPORT.format(folder=str(tmp_path / "a"))]

    def run(_: int) -> str:
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    with ThreadPoolExecutor(3) as pool:
        answers = set(pool.map(run, range(6)))
    assert [set(json.loads(answer)) for answer in answers] == [{"function helpers.clean", "function step", "python"}]
    kept = list(tmp_path.glob("zen-code-*/*"))
    assert len(kept) == 2
    assert all(source._read_summary(path) for path in kept)
