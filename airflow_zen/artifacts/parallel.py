"""Upload the files of a directory in parallel, one of them last."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

MAX_THREADS = 8


def run_in_parallel(work: Callable[[T], object], items: Iterable[T]) -> None:
    """Do `work` for every item on a few threads.

    After an error nothing is begun any more; it is raised when all that had begun has ended.
    """
    todo = list(items)
    if len(todo) < 2:
        for item in todo:
            work(item)
        return
    with ThreadPoolExecutor(min(MAX_THREADS, len(todo))) as pool:
        futures = [pool.submit(work, item) for item in todo]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            pool.shutdown(cancel_futures=True)
    for each in futures:
        if not each.cancelled():
            each.result()


def upload_files(directory: Path, last: str, upload: Callable[[Path, str], None]) -> None:
    """Call `upload(path, name)` for each file under `directory`, `last` after all others."""
    paths = [path for path in sorted(directory.rglob("*")) if path.is_file()]
    final = directory / last
    run_in_parallel(lambda path: upload(path, path.relative_to(directory).as_posix()), [p for p in paths if p != final])
    upload(final, last)
