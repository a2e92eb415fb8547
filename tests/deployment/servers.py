"""Servers of local targets in their environments, without the service that runs them otherwise."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import numpy as np
import pandas as pd
from mlflow.models import infer_signature, set_signature
from sklearn.ensemble import HistGradientBoostingClassifier

from airflow_zen.deployment.base import LocalTarget, ServerPlace
from airflow_zen.lineage.mlflow.offline import write_package
from airflow_zen.materializers.registry import default_registry
from airflow_zen.runtimes.base import TELEMETRY_OFF
from airflow_zen.runtimes.environments import find_uv
from airflow_zen.runtimes.virtualenv import RUNNER_REQUIREMENTS
from tests.runtimes.conftest import make_environment
from tests.servers.process import free_port, running

ROWS = 1000


@cache
def flights() -> pd.DataFrame:
    """Return rows whose columns are floats, whole numbers as floats, and integers."""
    random = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "dep_delay": random.normal(0, 20, ROWS),
            "distance": random.integers(100, 3000, ROWS).astype(float),
            "hour": random.integers(0, 24, ROWS),
        }
    )


def save_model(folder: Path) -> tuple[Path, list[int]]:
    """Store a model as its materializer does, with a signature; return its directory and its predictions."""
    table = flights()
    model = HistGradientBoostingClassifier(max_iter=10).fit(table, (table["dep_delay"] > 10).astype(int))
    folder.mkdir(parents=True)
    default_registry().for_type(type(model)).save(model, folder)
    predicted = model.predict(table)
    set_signature(folder.as_uri(), infer_signature(table, predicted))
    return folder, predicted.tolist()


def environment_of(target: LocalTarget, model: Path) -> str:
    """Return the interpreter of a target's environment, which later test runs use again."""
    needed = [line for line in (model / "requirements.txt").read_text().split() if line != "airflow-provider-zen"]
    return make_environment(*target.requirements(needed), *RUNNER_REQUIREMENTS)


@contextmanager
def served(target: LocalTarget, model: Path, folder: Path, name: str = "flight_delay") -> Iterator[ServerPlace]:
    """Run the server of a target until the block ends."""
    python = environment_of(target, model)
    ports = tuple(free_port() for _ in range(target.port_count))
    place = ServerPlace(name, "7", "d" * 64, python, folder / "server", model, ports)
    place.folder.mkdir(parents=True)
    server = target.server(place)
    for name, text in server.files.items():
        (place.folder / name).write_text(text)
    tools = [str(Path(python).parent), str(Path(find_uv() or "").parent), "/usr/bin", "/bin"]
    package = {"PYTHONPATH": write_package(folder / "package"), "PATH": ":".join(tools)}
    environment = {**TELEMETRY_OFF, **package, **server.environment}
    for build in server.builds:
        with running(build, log=folder / "build.log", answers=lambda: True, environment=environment) as process:
            assert process.wait(300) == 0, (folder / "build.log").read_text()
    ready = lambda: status_of(f"{place.url}{server.ready}") == 200  # noqa: E731
    with running(server.command, log=folder / "log", answers=ready, environment=environment):
        yield place


def post(url: str, body: Mapping[str, Any]) -> tuple[int, Any]:
    """Return the status and the decoded answer of a request; of an error its text."""
    request = Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except HTTPError as error:
        return error.code, error.read().decode()


def status_of(url: str) -> int:
    try:
        with urlopen(url, timeout=10) as answer:
            return int(answer.status)
    except (URLError, OSError):
        return 0
