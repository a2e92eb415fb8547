"""Run every bench, each in a process of its own, and keep what they measure.

python -m bench                     run all, write bench/results.json and the table of docs/performance.md
python -m bench NAME …              run some, by the name of a row or of a bench (bench_values), and keep the other rows
python -m bench --compare [NAME …]  write nothing; show the rows that are worse than bench/results.json by a quarter
python -m bench --docs              write the table of docs/performance.md again
python -m bench --list              list the rows
"""

from __future__ import annotations

import argparse
import ast
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.measure import NEEDS_MORE, ROOT, Row, from_json, table, text_of, to_json, worse

RESULTS = ROOT / "bench" / "results.json"
DOCUMENT = ROOT / "docs" / "performance.md"

_MARKED = re.compile(r"(<!-- bench/results\.json -->\n).*?(<!-- end -->)", re.DOTALL)
_TIMEOUT = 3600


def benches() -> dict[str, dict[str, str]]:
    """Return the rows of each bench, and what each one is, without importing it."""
    return {file.stem: rows for file in _files() if (rows := _constant(file, "ROWS"))}


def meanings() -> dict[str, str]:
    """Return what each row is, by name."""
    return {name: meaning for rows in benches().values() for name, meaning in rows.items()}


def needs() -> dict[str, tuple[str, ...]]:
    """Return the libraries of the rows that are measured only where these are installed."""
    return {name: libraries for file in _files() for name, libraries in _constant(file, "NEEDS").items()}


def document() -> str:
    """Return `docs/performance.md` with the table of the results."""
    results = from_json(RESULTS.read_text()) if RESULTS.exists() else {}
    shown = table(results, meanings(), needs())
    return _MARKED.sub(lambda match: f"{match[1]}{shown}\n{match[2]}", DOCUMENT.read_text())


def main() -> None:
    """Run what is asked for."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("names", nargs="*", metavar="NAME")
    options.add_argument("--compare", action="store_true")
    options.add_argument("--docs", action="store_true")
    options.add_argument("--list", action="store_true")
    chosen = options.parse_args()
    if chosen.list:
        print("\n".join(f"{name:32} {meaning}" for name, meaning in meanings().items()))
        return
    if not chosen.docs:
        known = from_json(RESULTS.read_text()) if RESULTS.exists() else {}
        measured, failed = _run(chosen.names)
        if chosen.compare:
            sys.exit(_compare(known, measured) or failed)
        kept = known if chosen.names else {}
        RESULTS.write_text(to_json(found for name in meanings() if (found := measured.get(name) or kept.get(name))))
        DOCUMENT.write_text(document())
        sys.exit(failed)
    DOCUMENT.write_text(document())


def _files() -> list[Path]:
    return sorted((ROOT / "bench").glob("bench_*.py"))


def _constant(file: Path, name: str) -> dict[str, Any]:
    """Return a dict that a bench defines, such as `ROWS`; empty where it has none, and is run by itself."""
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == name:
            found: dict[str, Any] = ast.literal_eval(node.value)
            return found
    return {}


def _run(names: list[str]) -> tuple[dict[str, Row], int]:
    """Run the benches that have the rows; return the rows, and 1 if a bench failed."""
    found, failed = dict[str, Row](), 0
    unknown = set(names) - meanings().keys() - benches().keys()
    if unknown:
        sys.exit(f"No row or bench is called {', '.join(sorted(unknown))}: python -m bench --list")
    lacking = {name for name, libraries in needs().items() if not all(map(find_spec, libraries))}
    for bench, rows in benches().items():
        chosen = {name for name in rows if not names or bench in names or name in names}
        for name in sorted(chosen & lacking):
            print(f"{name:32} {NEEDS_MORE}", flush=True)
        wanted = chosen - lacking
        if wanted:
            begun = time.perf_counter()
            measured = _run_one(bench)
            failed |= not wanted <= measured.keys()
            found |= {name: measured[name] for name in wanted & measured.keys()}
            print(f"   {bench}: {time.perf_counter() - begun:.0f} s\n", flush=True)
    return found, failed


def _run_one(bench: str) -> Mapping[str, Row]:
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        command = [sys.executable, "-m", f"bench.{bench}", "--json", file.name]
        try:
            done = subprocess.run(command, cwd=ROOT, timeout=_TIMEOUT, check=False)
        except subprocess.TimeoutExpired:
            print(f"bench: {bench} took more than {_TIMEOUT} s", file=sys.stderr)
            return {}
        if done.returncode:
            print(f"bench: {bench} failed", file=sys.stderr)
            return {}
        return from_json(Path(file.name).read_text())


def _compare(before: Mapping[str, Row], after: Mapping[str, Row]) -> int:
    found = worse(before, after)
    for old, new in found:
        print(f"worse: {text_of(new)}, was {old.value:g}")
    if not found:
        print(f"None of {len(after)} rows is worse than bench/results.json by more than a quarter.")
    return int(bool(found))


if __name__ == "__main__":
    main()
