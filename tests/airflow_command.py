"""Airflow's own command line, for tests that need no new process for each command: Airflow takes seconds to load."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Iterable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import BytesIO, TextIOWrapper
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """The exit code of a command, and what it printed."""

    code: int
    out: str
    err: str


def call(*words: Any) -> Answer:
    """Call Airflow's main in this process for one command."""
    from airflow.__main__ import main

    before, code = sys.argv, 0
    sys.argv = ["airflow", *map(str, words)]
    with redirect_stdout(_stream()) as out, redirect_stderr(_stream()) as err:
        try:
            main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
            print("" if code == ended.code else ended.code or "", file=sys.stderr)
        except Exception:
            code = 1
            traceback.print_exc()
        finally:
            sys.argv = before
    return Answer(code, _text(out), _text(err))


def _stream() -> TextIOWrapper:
    return TextIOWrapper(BytesIO(), "utf-8", write_through=True)


def _text(stream: TextIOWrapper) -> str:
    stream.seek(0)
    return stream.read()


def call_all(commands: Iterable[Sequence[str]], **environment: str) -> list[Answer]:
    """Call all commands in one new process, with these variables beside this process's own."""
    done = subprocess.run(
        [sys.executable, "-m", __name__],
        input=json.dumps([*commands]),
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [Answer(*each) for each in json.loads(done.stdout.splitlines()[-1])]


if __name__ == "__main__":
    print(json.dumps([call(*words) for words in json.load(sys.stdin)]))
