"""Measure what the code's part of a cache key costs, by lines and modules of the project that a step reaches.

Each round is a fresh process, as a task is. It loads a generated project and fingerprints its step: with an empty disk
(`cold`), with the summaries of an earlier process on the disk (`disk`), and once more (`again`). Figures are milliseconds of
user CPU time, the least of the rounds; `per_line` divides by the lines that the step reaches. `plan` is the time to make the
code's part of the keys of a mapped step of 1,000 instances, as a plan does. A bare `@task` has no key.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.measure import ROOT, Row, main

ROWS = {
    "key_ms_per_line": "the code's part of a cache key, for each line that a step reaches, nothing seen before; CPU",
    "key_ms_per_line_again": "the same once more in the process",
    "key_ms_plan_1000": "the keys of a mapped step of 1,000 instances",
}

PROBE = """
import gc, json, resource, sys
sys.path[:0] = sys.argv[1:3]
import airflow_zen.steps.cache_key
from airflow_zen.caching.code import fingerprint_code
import flow

def spent(times, known=None):
    begun = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    for number in range(times):
        fingerprint_code(flow.step, arguments={"number": number}, known=known)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_utime - begun) * 1000

first = spent(1)
print(json.dumps([first, spent(20) / 20, spent(1000, {}) if "plan" in sys.argv else 0]))
"""

HELPER = '''
def helper_{number}(frame, columns, depth={number}):
    """Clean the columns of a frame.

    The rows with a missing value are dropped.
    """
    result = {{}}
    for name in columns:
        values = frame[name]
        if name in IGNORED:
            continue
        low, high = min(values), max(values)
        # The range is cut into equal parts.
        width = (high - low) / max(depth, 1)
        if width == 0:
            result[name] = [0 for _ in values]
            continue
        edges = [low + width * index for index in range(depth + 1)]
        counts = [0] * (depth + 1)
        for value in values:
            position = int((value - low) / width)
            counts[position] += 1
        total = sum(counts)
        shares = [count / total for count in counts]
        entropy = -sum(share * math.log(share) for share in shares if share)
        log.debug("column %s has entropy %.3f", name, entropy)
        if entropy < THRESHOLD:
            result[name] = list(values)
        elif entropy > LIMITS["high"]:
            result[name] = [round(value, 3) for value in values]
        else:
            result[name] = [
                position if counts[position] > 1 else None
                for position in (int((value - low) / width) for value in values)
            ]
    rows = zip(*result.values(), strict=True)
    kept = [row for row in rows if None not in row]
    return dict(zip(result, map(list, zip(*kept)), strict=False))

'''
HEAD = 'import logging\nimport math\n\nlog = logging.getLogger(__name__)\nIGNORED = {"id", "name"}\nTHRESHOLD = 0.5\nLIMITS = {"high": 3.5}\n'


def rows(rounds: int) -> Iterator[Row]:
    """Yield the rows, and print how the cost grows with lines and modules."""
    grown = []
    for helpers, modules in ((10, 1), (50, 5), (200, 1), (1000, 50), (200, 20)):
        grown.append(_measure(helpers, modules, rounds))
        print("{helpers:5} helpers in {modules:3} modules, {lines:6} lines: ".format(**grown[-1]) + _text(grown[-1]))
    lines = grown[-1]["lines"]
    yield Row("key_ms_per_line", grown[-1]["cold"] / lines, "ms")
    yield Row("key_ms_per_line_again", grown[-1]["again"] / lines, "ms")
    yield Row("key_ms_plan_1000", _measure(10, 1, 1, plan=True)["plan"], "ms")


def _text(row: dict[str, float]) -> str:
    return ", ".join(
        f"{kind} {row[kind]:8.2f} ms ({row[kind] / row['lines']:.4f} a line)" for kind in ("cold", "disk", "again")
    )


def _measure(helpers: int, modules: int, rounds: int, plan: bool = False) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as directory:
        project = Path(directory, "project")
        project.mkdir()
        lines = _write(project, helpers, modules)
        found: dict[str, list[float]] = {"cold": [], "disk": [], "again": [], "plan": []}
        for number in range(rounds):
            disk = Path(directory, str(number))
            disk.mkdir()
            for kind in ("cold", "disk"):
                first, again, planned = _run(project, disk, plan)
                found[kind].append(first)
                found["again"].append(again)
                found["plan"].append(planned)
        return {"helpers": helpers, "modules": modules, "lines": lines, **{key: min(found[key]) for key in found}}


def _write(project: Path, helpers: int, modules: int) -> int:
    """Write a project whose step calls all helpers, and return its lines."""
    each = helpers // modules
    for module in range(modules):
        text = HEAD + "".join(HELPER.format(number=module * each + number) for number in range(each))
        (project / f"helpers_{module}.py").write_text(text)
    calls = "".join(
        f"    frame = helpers_{number // each}.helper_{number}(frame, columns)\n" for number in range(helpers)
    )
    imports = "".join(f"import helpers_{module}\n" for module in range(modules))
    (project / "flow.py").write_text(f"{imports}\n\ndef step(frame, columns=()):\n{calls}    return frame\n")
    return sum(path.read_text().count("\n") for path in project.glob("*.py"))


def _run(project: Path, disk: Path, plan: bool) -> list[float]:
    command = [sys.executable, "-c", PROBE, str(project), str(ROOT), *(["plan"] if plan else [])]
    environment = {**os.environ, "TMPDIR": str(disk)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    answer: list[float] = json.loads(done.stdout.splitlines()[-1])
    return answer


if __name__ == "__main__":
    main(__doc__, rows, rounds=3)
