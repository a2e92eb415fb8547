"""Bring services up as `docker compose up` does: each when what it depends on is healthy, or has done its work."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.docker.compose import Service
from tests.docker.here import ServicePaths
from tests.servers.process import stop


class RunningServices:
    """Services as processes; every one is stopped, with what it started, when the block ends."""

    def __init__(
        self,
        services: Mapping[str, Service],
        paths: ServicePaths,
        ready: Sequence[str] = (),
        own_paths: Mapping[str, ServicePaths] | None = None,
    ) -> None:
        """Take the services that are to run; those of `ready` run already, those of `apart` have a place of their own."""
        self.services, self.paths, self.own_paths = services, paths, own_paths or {}
        self.ready = dict.fromkeys(ready, 0.0)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._begun = time.monotonic()

    def run(self, timeout: float) -> None:
        """Start everything and wait until it is ready; raises with the end of the log of what failed."""
        waiting = [name for name in self.services if name not in self.ready]
        while waiting:
            for name in waiting:
                if name not in self.processes and set(self.services[name].depends_on) <= set(self.ready):
                    self._start(name)
            for name in [name for name in self._services_to_check(waiting) if self._is_ready(name)]:
                self.ready[name] = time.monotonic() - self._begun
                waiting.remove(name)
            if time.monotonic() - self._begun > timeout:
                raise AssertionError("\n".join([f"not ready: {waiting}", *map(self.tail, waiting)]))
            # Each check starts programs.
            time.sleep(1)

    def place(self, name: str) -> ServicePaths:
        """Return what the service sees."""
        return self.own_paths.get(name, self.paths)

    def check(self, name: str) -> subprocess.CompletedProcess[str]:
        """Run the service's own health check once."""
        service, place = self.services[name], self.place(name)
        told, home = place.environment(service), place.home(name)
        return subprocess.run(
            place.health(service), env=told, cwd=home, capture_output=True, text=True, timeout=240, check=False
        )

    def log(self, name: str) -> Path:
        """Return the file that holds what the service prints."""
        return self.paths.directory / f"{name}.log"

    def tail(self, name: str) -> str:
        """Return the end of it."""
        text = self.log(name).read_text(errors="replace") if self.log(name).exists() else "(never started)"
        return f"--- {name}\n{text[-3000:]}"

    def stop(self) -> None:
        """End all: every one is asked, then each is waited for, last started first."""
        for process in self.processes.values():
            process.terminate()
        for process in reversed(self.processes.values()):
            stop(process, grace=3)

    def _start(self, name: str) -> None:
        service, place = self.services[name], self.place(name)
        with self.log(name).open("ab") as output:
            self.processes[name] = subprocess.Popen(
                place.command(service),
                env=place.environment(service),
                cwd=place.home(name),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _services_to_check(self, waiting: Sequence[str]) -> list[str]:
        """Name what has been started; first what answers without starting Airflow's command line, which takes seconds."""
        started = [name for name in waiting if name in self.processes]
        return [name for name in started if "airflow" not in self.services[name].health] or started

    def _is_ready(self, name: str) -> bool:
        code = self.processes[name].poll()
        if self.services[name].is_one_shot and code == 0:
            return True
        if code is not None:
            raise AssertionError(f"{name} ended with {code}\n{self.tail(name)}")
        return not self.services[name].is_one_shot and self.check(name).returncode == 0


@contextmanager
def run_services(
    services: Mapping[str, Service],
    paths: ServicePaths,
    ready: Sequence[str] = (),
    own_paths: Mapping[str, ServicePaths] | None = None,
    timeout: float = 600,
) -> Iterator[RunningServices]:
    """Run the services from when all are ready until the block ends."""
    running = RunningServices(services, paths, ready, own_paths)
    try:
        running.run(timeout)
        yield running
    finally:
        running.stop()
