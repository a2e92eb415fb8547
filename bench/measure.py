"""Rows of results: what takes turns, medians and spreads, and the program around them.

A bench is a module with `ROWS`, the names of its rows and what each one is, and with a function `rows` that yields them.
`python -m bench.<name>` prints them; `python -m bench` runs all.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
NEEDS_MORE = "needs the libraries of `make test-ml`"
# Users' processes load bytecode.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

Work = Callable[[], object]
Clock = Callable[[], float]


class Row(NamedTuple):
    """One result, of which less is better; `spread` is half the distance of its quartiles, in the same unit."""

    name: str
    value: float
    unit: str
    spread: float = 0.0


def row(name: str, values: Sequence[float], unit: str) -> Row:
    """Return the median of some values as a row."""
    if len(values) == 1:
        return Row(name, values[0], unit)
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return Row(name, middle, unit, (high - low) / 2)


def ratio_row(name: str, pairs: Iterable[tuple[float, float]]) -> Row:
    """Return the median of our time over the other's, of pairs that were measured one after the other."""
    return row(name, [ours / other for ours, other in pairs], "times")


def in_turn(
    ours: Work, other: Work, rounds: int, prepare: Callable[[int], object] = int
) -> Iterator[tuple[float, float]]:
    """Yield the processor seconds of two pieces of work that take turns; the first round only warms up.

    Load on the machine then weighs on both, and their ratio is that of a quiet machine. `prepare` gets the number of the
    round before it.
    """
    for number in range(rounds + 1):
        prepare(number)
        pair = seconds(ours), seconds(other)
        if number:
            yield pair


def seconds(work: Work, clock: Clock = time.process_time) -> float:
    """Return the seconds that a piece of work takes, by default of processor time."""
    begun = clock()
    work()
    return clock() - begun


def run_python(program: str, *arguments: str, **environment: str) -> tuple[list[str], float]:
    """Run a program in a fresh interpreter; return the words of its output, and its seconds of processor time."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-c", program, *arguments]
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=variables, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"A measured program failed:\n{done.stderr[-3000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done.stdout.split(), after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(doc: str | None, measure: Callable[..., Iterable[Row]], rounds: int, **numbers: int) -> None:
    """Run a bench as a program: print its rows, and write them to `--json` if that is given.

    `numbers` are more arguments of `measure` with their defaults, each an option of the program.
    """
    options = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=rounds)
    for name, default in numbers.items():
        options.add_argument(f"--{name}", type=int, default=default)
    options.add_argument("--json", type=Path, help="a file for the rows")
    chosen = options.parse_args()
    rows = []
    for each in measure(chosen.rounds, **{name: getattr(chosen, name) for name in numbers}):
        print(text_of(each), flush=True)
        rows.append(each)
    if chosen.json:
        chosen.json.write_text(to_json(rows))


def text_of(each: Row) -> str:
    """Return a row as a line for people."""
    return f"{each.name:32} {_short(each.value):>9} ± {_short(each.spread):<7} {each.unit}"


def to_json(rows: Iterable[Row]) -> str:
    """Return the file of results."""
    listed = [{**each._asdict(), "value": _rounded(each.value), "spread": _rounded(each.spread)} for each in rows]
    return json.dumps({"rows": listed}, indent=1) + "\n"


def from_json(text: str) -> dict[str, Row]:
    """Return the rows of a file of results, by name."""
    return {each["name"]: Row(**each) for each in json.loads(text)["rows"]}


def worse(before: Mapping[str, Row], after: Mapping[str, Row], share: float = 0.25) -> list[tuple[Row, Row]]:
    """Return the rows, before and after, that are worse by more than a share."""
    both = [(before[name], after[name]) for name in after if name in before]
    return [(old, new) for old, new in both if new.value > old.value * (1 + share)]


def table(rows: Mapping[str, Row], meanings: Mapping[str, str], needy: Container[str] = ()) -> str:
    """Return the rows as the table of `docs/performance.md`; of the `needy` ones that were not measured, what they need."""
    lines = ["| Row | What | Result | Spread |", "| --- | --- | --- | --- |"]
    for name, meaning in meanings.items():
        if name in rows:
            each = rows[name]
            lines.append(f"| `{name}` | {meaning} | {_short(each.value)} {each.unit} | ± {_short(each.spread)} |")
        elif name in needy:
            lines.append(f"| `{name}` | {meaning} | {NEEDS_MORE} | |")
    return "\n".join(lines)


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def _short(value: Any) -> str:
    """Return a number with three digits, without an exponent."""
    return f"{float(f'{value:.3g}'):,.6g}"
