"""Promises of the deployment service, with servers in processes of their own, and real signals."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from inspect import signature
from typing import Self

import httpx
import pytest

from airflow_zen import predictions
from airflow_zen.config.settings import Settings, open_stack
from airflow_zen.deployment.base import log_token
from airflow_zen.deployment.client import encode
from airflow_zen.deployment.prediction_log import prediction_parts, read_predictions
from airflow_zen.deployment.service import find_log_tokens
from airflow_zen.errors import DeploymentFailed
from airflow_zen.operators.deployment import DeployModelOperator
from tests.deployment.conftest import wait_until
from tests.harness import run_dag
from tests.operators.pipelines import pipeline


class Clients:
    """Clients that request predictions without a pause during a block, and count the answers."""

    def __init__(self, url: str, count: int = 8) -> None:
        self._url, self._count = url, count
        self.answers: Counter[str] = Counter()

    def __enter__(self) -> Self:
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(self._count)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        body = {"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2]]}}
        with httpx.Client(trust_env=False, timeout=30) as client:
            while not self._ended.is_set():
                try:
                    answer = client.post(self._url, json=body)
                    self.answers[str(answer.json().get("predictions", answer.text))] += 1
                except httpx.HTTPError as error:
                    self.answers[repr(error)] += 1


def test_replacement_fails_no_request(service):
    """Clients that never pause get the old or the new predictions, and nothing else; the old server is gone then."""
    first = service.deploy("m", 1.0, seconds=0.02)
    with Clients(first.predict_url) as clients:
        time.sleep(0.3)
        second = service.deploy("m", 2.0, seconds=0.02)
        time.sleep(0.3)
    assert set(clients.answers) == {"[3.0]", "[6.0]"}
    assert min(clients.answers.values()) > 8
    assert (second.predict_url, second.version) == (first.predict_url, "2.0")
    assert wait_until(lambda: len(service.servers()) == 2, 10)
    assert len([*(service.directory / "m").iterdir()]) == 1


def test_the_same_deployment_again_changes_nothing(service):
    """The same version with the same options is not started again, and its record stays; other options replace it."""
    first = service.deploy("m", 1.0)
    servers = {process.pid for process in service.servers()}
    assert service.deploy("m", 1.0) == first
    assert {process.pid for process in service.servers()} == servers
    key = service.spec("m", 1.0).key
    assert service.client.find_current("m", key) == first
    assert service.client.find_current("m", "other") is None
    assert service.deploy("m", 1.0, seconds=0.01).target != first.target


@pytest.mark.parametrize(
    ("factor", "expected", "why"),
    [
        (2.0, 6.5, r"row 0 is 6\.0, and 6\.5 in process"),
        (-1.0, None, r"ended with exit code 1.*a factor is not below zero"),
    ],
)
def test_a_server_that_fails_is_rolled_back(service, factor, expected, why):
    """A server that predicts something else, or does not start, gets no request: the old one goes on, and the log is told."""
    before = service.deploy("m", 1.0)
    with pytest.raises(DeploymentFailed, match=f"(?s){why}"), Clients(before.predict_url, 2) as clients:
        service.deploy("m", factor, expected=expected)
    assert set(clients.answers) == {"[3.0]"}
    assert len(service.servers()) == 2
    assert len([*(service.directory / "m").iterdir()]) == 1


def test_a_server_that_dies_is_started_again(service):
    """After a kill of the server the same URL answers again, without a request to do so."""
    deployed = service.deploy("m", 1.0)
    for process in service.servers():
        process.kill()

    def answers() -> bool:
        return service.predict(deployed.predict_url).status_code == 200

    assert not answers()
    assert "started again" in service.predict(deployed.predict_url).json()["error"]
    assert wait_until(answers, 20)


def test_servers_end_with_a_killed_service_and_come_back_with_it(service):
    """No server outlives a killed service; what was served is served at the same URL when it is started again."""
    deployed = service.deploy("m", 1.0)
    slow = service.spec("m", 2.0, start=60)
    service.client._request("PUT", "deployments/m", encode(slow))
    assert wait_until(lambda: len(service.servers()) == 4, 10)
    service.kill()
    assert wait_until(lambda: not service.servers(), 10)
    service.start()
    assert wait_until(lambda: service.client.describe_state("m") == "serving", 20)
    assert service.predict(deployed.predict_url).json() == {"predictions": [3.0]}
    assert len([*(service.directory / "m").iterdir()]) == 1


def test_a_service_ends_whose_directory_is_deleted(service):
    """A service that nobody can find any more ends, with its servers."""
    service.deploy("m", 1.0)
    shutil.rmtree(service.directory)
    assert service.process.wait(20) == 0
    assert wait_until(lambda: not service.servers(), 10)


WAITING_TASK = """
import sys
from pathlib import Path
from airflow_zen.deployment.client import ServiceClient, decode, find_service
from airflow_zen.deployment.replica import ReplicaSpec
directory = Path(sys.argv[1])
ServiceClient(directory, find_service(directory)).deploy(decode(Path(sys.argv[2]).read_bytes(), ReplicaSpec))
"""


def test_a_deployment_goes_on_without_its_task(service, tmp_path):
    """A task that is killed while it waits has handed over everything: the new server takes the place of the old one."""
    deployed, spec = service.deploy("m", 1.0), tmp_path / "spec.json"
    spec.write_bytes(encode(service.spec("m", 2.0, start=2)))
    task = subprocess.Popen([sys.executable, "-c", WAITING_TASK, str(service.directory), str(spec)])
    assert wait_until(lambda: len(service.servers()) == 4, 20)
    task.kill()
    assert task.wait() == -9
    shutil.rmtree(tmp_path / "models")
    assert service.predict(deployed.predict_url).json() == {"predictions": [3.0]}
    assert wait_until(lambda: service.predict(deployed.predict_url).json() == {"predictions": [6.0]}, 20)
    assert wait_until(lambda: len(service.servers()) == 2, 10)


def test_a_stopped_deployment_answers_what_it_was_asked(service):
    """A stop waits for requests that are being answered; afterwards nothing is left, on the disk neither."""
    deployed = service.deploy("m", 1.0, seconds=1)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(service.predict, deployed.predict_url)
        assert wait_until(lambda: service.client.list("m")[0]["in_flight"] == 1, 5)
        service.client.stop("m")
        assert answer.result().json() == {"predictions": [3.0]}
    assert service.predict(deployed.predict_url).status_code == 404
    assert not service.servers()
    assert not [*service.directory.glob("m*")]


def test_tokens_are_required_where_they_are_set(service):
    """A deployment with a token answers 401 without it, and nobody can change deployments without the service's token."""
    deployed = service.deploy("m", 1.0, token="secret")
    assert service.predict(deployed.predict_url).status_code == 401
    assert service.predict(deployed.predict_url, "other").status_code == 401
    assert service.predict(deployed.predict_url, "secret").status_code == 200
    url = deployed.endpoint.rpartition("/")[0]
    assert httpx.delete(f"{url}/-/deployments/m", trust_env=False).status_code == 401
    assert "secret" not in (service.directory / "m.json").read_text()


def send_events(url: str) -> list[int]:
    """Send a request and its answer as KServe's logger does; return the status of each."""
    events = [("request", {"instances": [{"a": 5, "b": 6}]}), ("response", {"predictions": [11.0]})]
    headers = [{"ce-id": "1", "ce-type": f"org.kubeflow.serving.inference.{kind}"} for kind, _ in events]
    bodies = [body for _, body in events]
    return [
        httpx.post(url, json=body, headers=each, trust_env=False).status_code
        for each, body in zip(headers, bodies, strict=True)
    ]


def test_loggers_need_a_token(service, monkeypatch):
    """With a connection, and beyond the loopback interface, only those that have its token write into the log."""
    monkeypatch.setenv("AIRFLOW_CONN_CLIENTS", '{"conn_type": "http", "password": "secret"}')
    service.end()
    service.start("--token-conn-id", "clients")
    url = f"{service.client._address.url}/log/m_model?version=7&token="
    assert send_events(url) == send_events(f"{url}secret") == [401, 401]
    assert send_events(f"{url}{log_token('secret')}") == [202, 202]
    assert service.client.flush() == {"written": 1, "dropped": 0}
    assert find_log_tokens("127.0.0.1", []) is None
    assert find_log_tokens("0.0.0.0", []) == []


def test_predictions_are_logged_with_version_and_latency(service, monkeypatch):
    """Inputs, predictions, version and latency are rows of a table in the store, also of what a logger URL got.

    Before, the step that reads them fails with the advice to deploy with a log, and to send a request.
    """
    monkeypatch.setenv("AIRFLOW__ZEN__DEPLOYMENTS_DIR", str(service.directory))
    recent = pipeline(lambda: predictions("m_model"))
    (option,) = re.findall(
        r"Deploy it with (\w+)=True, and send a request\.", str(run_dag(recent, run_id="r1").tasks[0].error)
    )
    assert option in signature(DeployModelOperator.__init__).parameters
    deployed = service.deploy("m", 1.0, logged=True, seconds=0.05)
    for _ in range(3):
        service.predict(deployed.predict_url)
    log_url = f"{deployed.endpoint.rpartition('/')[0]}/log/m_model?version=7&deployment=remote"
    assert send_events(log_url) == [202, 202]
    assert service.client.flush() == {"written": 4, "dropped": 0}

    transport = open_stack(Settings.read(), lineage=False).store.transport
    parts = prediction_parts(transport, "m_model")
    tables = [table.to_pandas() for table in read_predictions(transport, parts)]
    found = {
        (row.deployment, row.model_version, row.a, row.b, row.prediction) for t in tables for row in t.itertuples()
    }
    assert found == {("m", "1.0", 1.0, 2.0, 3.0), ("remote", "7", 5.0, 6.0, 11.0)}
    assert all(table.latency_ms[table.deployment == "m"].between(50, 5000).all() for table in tables)
    assert prediction_parts(transport, "m_model", until="2020-01-01") == []
    assert run_dag(recent, run_id="r2").states == {"predictions_of_m_model": "success"}


def test_what_waits_is_logged_at_the_end(service):
    """Predictions that are not written yet are written when the service ends."""
    service.predict(service.deploy("m", 1.0, logged=True).predict_url)
    service.end()
    service.start()
    transport = open_stack(Settings.read(), lineage=False).store.transport
    assert len(prediction_parts(transport, "m_model")) == 1
