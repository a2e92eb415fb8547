"""Measure a large table on a local S3 server (Ceph): this package against bare pyarrow, and ZenML where it is installed.

The frame has 2,000,000 rows: 8 floats, 1 integer, 1 string. Each measurement is a process of its own; kinds take
turns, so that another load on the machine falls on all of them. Printed are the least CPU seconds (of that process,
imports not counted), wall seconds, and the memory that was added at its peak, as a part of the frame.

`bare` writes parquet with the same codec, dictionary columns and row groups through obstore, the fastest client for
it (Ceph refuses the uploads of pyarrow's own, without a length), and reads through the faster of obstore and pyarrow's
own. `zen_load_kept` is a load on a worker whose local cache has the file. Options: --rounds 5, --rows 2000000, --zenml PYTHON (of an environment with zenml and s3fs), --stream GB (also writes and reads that much batch by batch).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ARMS = HERE / "table_s3_arms.py"


def measure(python: str, arm: str, options: dict[str, Any]) -> dict[str, float]:
    """Run one arm in a fresh process, and give what it measured about itself."""
    environment = {
        **os.environ,
        **options["environment"],
        "PYTHONPATH": str(HERE.parent) if python == sys.executable else "",
    }
    command = [python, str(ARMS), arm, json.dumps(options)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{arm} failed:\n{done.stdout}{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def least(rounds: list[dict[str, float]]) -> dict[str, float]:
    """Take the least of each figure: what is above it is other load."""
    return {name: min(one[name] for one in rounds) for name in rounds[0]}


def compare(arms: list[tuple[str, str]], options: dict[str, Any], rounds: int) -> dict[str, dict[str, float]]:
    """Let the arms take turns."""
    found: dict[str, list[dict[str, float]]] = {arm: [] for _, arm in arms}
    for _ in range(rounds):
        for python, arm in arms:
            found[arm].append(measure(python, arm, {**options, "memory": False}))
    memory = {arm: measure(python, arm, {**options, "memory": True}) for python, arm in arms}
    return {arm: least(measured) | memory[arm] for arm, measured in found.items()}


def report(verb: str, found: dict[str, dict[str, float]]) -> None:
    """Print one table, with ratios to the fastest bare client."""
    bare = min((arm for arm in found if arm.startswith("bare")), key=lambda arm: found[arm]["cpu"])
    print(f"\n{verb:24} {'CPU s':>8} {'wall s':>8} {'peak/frame':>11} {'CPU ratio':>10} {'wall ratio':>11}")
    for arm, figures in found.items():
        ratios = [figures[name] / found[bare][name] for name in ("cpu", "wall")]
        print(
            f"{arm:24} {figures['cpu']:8.2f} {figures['wall']:8.2f} {figures['peak']:11.2f} "
            f"{ratios[0]:10.2f} {ratios[1]:11.2f}"
        )


def main() -> None:
    """Start the server, run all arms, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--zenml", default="")
    parser.add_argument("--stream", type=float, default=0.0)
    chosen = parser.parse_args()
    sys.path.insert(0, str(HERE.parent))
    from tests.servers.ceph import ceph

    with tempfile.TemporaryDirectory(prefix="bench-") as directory, ceph(Path(directory, "ceph")) as server:
        options = {
            "root": server.root,
            "storage_options": server.storage_options(),
            "environment": server.environment(),
            "rows": chosen.rows,
        }
        zenml = [(chosen.zenml, arm) for arm in ("zenml_save", "zenml_load")] if chosen.zenml else []
        save = [(sys.executable, arm) for arm in ("bare_save_obstore", "zen_save")] + zenml[:1]
        report("save", compare(save, options, chosen.rounds))
        arms = ("bare_load_obstore", "bare_load_pyarrow", "zen_load", "zen_load_kept")
        load = [(sys.executable, arm) for arm in arms] + zenml[1:]
        report("load", compare(load, options, chosen.rounds))
        if chosen.stream:
            figures = measure(sys.executable, "zen_stream", {**options, "memory": True, "gigabytes": chosen.stream})
            print(f"\niterator form, {chosen.stream:g} GB: " + ", ".join(f"{k} {v:.0f}" for k, v in figures.items()))


if __name__ == "__main__":
    main()
