"""Measure the local targets of deployments: one model, one client, each server behind the deployment service.

For each target: the seconds until it serves, whether its predictions of 1,000 rows equal those in process, requests of one
row per second from clients that never pause with the median and the 99th percentile of the time of an answer, and the
requests that failed while another version replaced the first. The environments of the servers are made first.

    python bench/bench_deployment.py --targets MLflowServing BentoML --seconds 10 --clients 4
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pandas as pd
import psutil
from sklearn.linear_model import LinearRegression

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from airflow_zen import deployment
from airflow_zen.config.settings import open_stack
from airflow_zen.deployment.base import Deployment, Target
from airflow_zen.deployment.client import ServiceClient
from airflow_zen.deployment.protocols import Rows, compare_predictions
from airflow_zen.deployment.state import read_address
from airflow_zen.deployment.step import DeploymentOptions, deploy_model

TARGETS = ("MLflowServing", "BentoML", "KServe", "Seldon")


def flights() -> pd.DataFrame:
    """Return 1,000 rows of what the model takes."""
    generator = np.random.default_rng(0)
    names = ("dep_delay", "distance", "hour")
    return pd.DataFrame({name: generator.normal(size=1000) for name in names})


async def load(
    url: str, body: Mapping[str, Any], clients: int, ended: asyncio.Event
) -> tuple[Counter[str], list[float]]:
    """Send requests until the event; return how many had which answer, and the seconds of each."""
    answers, seconds = Counter[str](), list[float]()

    async def client(session: aiohttp.ClientSession) -> None:
        while not ended.is_set():
            begun = time.perf_counter()
            try:
                async with session.post(url, json=body) as answer:
                    await answer.read()
                    answers[str(answer.status)] += 1
            except aiohttp.ClientError as error:
                answers[repr(error)] += 1
            seconds.append(time.perf_counter() - begun)

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(client(session) for _ in range(clients)))
    return answers, seconds


async def load_for(url: str, body: Mapping[str, Any], clients: int, limit: float) -> tuple[Counter[str], list[float]]:
    """Send requests for some seconds."""
    ended = asyncio.Event()
    asyncio.get_running_loop().call_later(limit, ended.set)
    return await load(url, body, clients, ended)


async def replace(url: str, body: Mapping[str, Any], clients: int, deploy: Any) -> Counter[str]:
    """Return the answers while another version is deployed."""
    ended = asyncio.Event()
    running = asyncio.create_task(load(url, body, clients, ended))
    await asyncio.to_thread(deploy)
    ended.set()
    return (await running)[0]


def measure(target: Target, options: argparse.Namespace) -> dict[str, str]:
    """Return the row of a target."""
    frame, stack = flights(), open_stack(lineage=False)
    models = [LinearRegression().fit(frame, frame["dep_delay"] * factor) for factor in (1, 2)]
    refs = [stack.save(model).ref for model in models]

    def deploy(at: int) -> Deployment:
        named = DeploymentOptions(name=target.kind, model="bench", version=str(at), log_predictions=False)
        return deploy_model(refs[at], target, frame, named)

    deploy(0)
    # A second start has the environment, and its bytecode.
    begun = time.monotonic()
    served = deploy(1)
    start = time.monotonic() - begun
    with asyncio.Runner() as runner:
        run = runner.run
        whole, one = target.encode_rows(Rows.from_value(frame)), target.encode_rows(Rows.from_value(frame[:1]))
        answer = run(_post(served.predict_url, whole))
        difference = compare_predictions(models[1].predict(frame).tolist(), answer)
        run(load_for(served.predict_url, one, options.clients, 2))
        answers, seconds = run(load_for(served.predict_url, one, options.clients, options.seconds))
        replaced = run(replace(served.predict_url, one, options.clients, lambda: deploy(0)))
    ServiceClient.configured().stop(target.kind)
    failed = sum(count for found, count in replaced.items() if found != "200")
    low, high = np.percentile(seconds, [50, 99]) * 1000
    return {
        "Target": type(target).__name__,
        "start, s": f"{start:.0f}",
        "1,000 rows": difference or "equal",
        "requests/s": f"{answers['200'] / options.seconds:,.0f}",
        "p50, ms": f"{low:.1f}",
        "p99, ms": f"{high:.1f}",
        "failed of requests while replaced": f"{failed} of {sum(replaced.values()):,}",
    }


async def _post(url: str, body: Mapping[str, Any]) -> Any:
    async with aiohttp.ClientSession() as session, session.post(url, json=body) as answer:
        return await answer.json()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", nargs="*", default=TARGETS)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--environments", default=str(Path(tempfile.gettempdir(), "airflow-zen-environments")))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"AIRFLOW_HOME": home, "AIRFLOW__ZEN__ENVIRONMENTS_DIR": options.environments}
        try:
            for at, name in enumerate(options.targets):
                row = measure(getattr(deployment, name)(), options)
                if not at:
                    print(f"| {' | '.join(row)} |\n|{' --- |' * len(row)}")
                print(f"| {' | '.join(row.values())} |", flush=True)
        finally:
            if address := read_address(Path(home, "zen-deployments")):
                service = psutil.Process(address.pid)
                service.terminate()
                service.wait(20)


if __name__ == "__main__":
    main()
