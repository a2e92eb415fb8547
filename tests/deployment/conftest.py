"""A deployment service in a process of its own, and requests to it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

from airflow_zen.deployment.base import Deployment, DeploymentRequest
from airflow_zen.deployment.client import ServiceClient, find_service
from airflow_zen.deployment.gateway import token_hash
from airflow_zen.deployment.protocols import Rows
from airflow_zen.deployment.replica import ReplicaSpec
from tests.deployment.light_target import LightServing


class RunningService:
    """A service that knows `LightServing`; its models are files with a factor."""

    def __init__(self, directory: Path, models: Path) -> None:
        self.directory, self._models = directory, models
        self.start()

    def start(self, *options: str) -> None:
        """Start the process, and wait until it answers."""
        command = [sys.executable, "-m", "tests.deployment.light_target", str(self.directory), *options]
        self.directory.mkdir(exist_ok=True)
        with (self.directory / "service.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        while not (address := find_service(self.directory)) or address.pid != self.process.pid:
            assert self.process.poll() is None, (self.directory / "service.log").read_text()
            time.sleep(0.05)
        self.client = ServiceClient(self.directory, address)

    def spec(
        self,
        name: str,
        factor: float,
        *,
        expected: float | None = None,
        token: str = "",
        logged: bool = False,
        **options,
    ) -> ReplicaSpec:
        """Return what is sent for a model of a factor; by default the smoke test expects what it predicts."""
        model = self._models / f"{name}-{factor}"
        model.mkdir(exist_ok=True, parents=True)
        (model / "factor").write_text(str(factor))
        request = DeploymentRequest(
            name=name,
            model=f"{name}_model",
            version=str(factor),
            digest=str(factor),
            uri="",
            directory=model,
            rows=Rows(("a", "b"), ("FP64", "FP64"), [[1.0, 2.0]]),
            expected=[3.0 * factor if expected is None else expected],
            token=token_hash(token),
            log_predictions=logged,
        )
        target = LightServing(**options)
        return ReplicaSpec(repr(target), request, target.key(request))

    def deploy(self, name: str, factor: float, **options) -> Deployment:
        """Deploy a model, and wait for it."""
        return self.client.deploy(self.spec(name, factor, **options))

    def predict(self, url: str, token: str = "") -> httpx.Response:
        """Request the prediction of one row whose sum is 3."""
        body = {"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2]]}}
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.post(url, json=body, headers=headers, trust_env=False, timeout=30)

    def servers(self) -> list[psutil.Process]:
        """Return the processes of servers, and those that watch over them."""
        found = []
        for process in psutil.process_iter(["cmdline", "status"]):
            command = " ".join(process.info["cmdline"] or ())
            if f"{self.directory}/" in command and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process)
        return found

    def kill(self) -> None:
        """Kill the service as a machine does that is out of memory."""
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """End the service as a supervisor does."""
        self.process.terminate()
        self.process.wait(60)


@pytest.fixture
def service(tmp_path, monkeypatch):
    """A service with nothing deployed, whose predictions go to an artifact root of its own."""
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path / "root"))
    running = RunningService(tmp_path / "deployments", tmp_path / "models")
    yield running
    running.end()
    assert wait_until(lambda: not running.servers(), 10)


def wait_until(condition, seconds: float) -> bool:
    """Wait for a condition; return whether it is met."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return bool(condition())
