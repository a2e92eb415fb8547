"""The whole compose file, running without Docker."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from tests.docker.compose import DOCKER, read_compose_file
from tests.docker.here import ServicePaths
from tests.docker.machine import machines, with_name_and_queues
from tests.docker.up import RunningServices, run_services
from tests.servers import postgres as database

# PostgreSQL refuses to run as root, so a server of our own stands for that service.
STARTED = (
    *("redis", "s3", "buckets", "mlflow"),
    *("airflow-set-up", "api-server", "scheduler", "dag-processor", "triggerer"),
)
SMALL = {
    "API_WORKERS": "1",
    "MLFLOW_WORKERS": "1",
    "WORKER_CONCURRENCY": "2",
    "DAG_REFRESH": "5",
    "LOCAL_CACHE_DIR": "/data/cache",
}


def missing() -> list[str]:
    """Return the programs that are not on the PATH."""
    return [*database.missing(), *(name for name in ("redis-server", "psql") if not shutil.which(name))]


@contextmanager
def stack(
    directory: Path,
    secrets: Path,
    dags: Path,
    workers: Mapping[str, str],
    variables: Mapping[str, str] | None = None,
    settings: Mapping[str, str] | None = None,
) -> Iterator[RunningServices]:
    """Run everything, healthy, until the block ends.

    workers: their queues by name; each has a machine of its own. variables: of the compose file. settings: environment
    variables for every part of Airflow, beside those of the compose file.
    """
    services = read_compose_file({"SECRETS": str(secrets), **SMALL, **(variables or {})}).services
    chosen = {name: services[name] for name in STARTED}
    chosen |= {name: with_name_and_queues(services["worker"], name, queues) for name, queues in workers.items()}
    for service in chosen.values():
        if service.image.startswith("airflow-zen:"):
            service.environment.update(settings or {})
    with ExitStack() as block:
        server = block.enter_context(database.postgres("postgres", (secrets / "postgres_password").read_text()))
        paths = ServicePaths(directory, secrets, dags)
        address = urlsplit(server)
        paths.ports[5432] = address.port  # type: ignore[index]
        told = {"PGHOST": "127.0.0.1", "PGPORT": str(address.port), "PGPASSWORD": str(address.password)}
        told |= {"POSTGRES_USER": "postgres", "POSTGRES_DB": "postgres", "SECRETS": str(secrets)}
        subprocess.run([DOCKER / "postgres.sh"], env={**os.environ, **told}, check=True, capture_output=True)
        own_paths = block.enter_context(machines(paths, [chosen[name] for name in workers]))
        yield block.enter_context(run_services(chosen, paths, ready=["postgres"], own_paths=own_paths))
