"""The services of the compose file as processes of this machine, with its addresses and paths."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.docker.compose import DOCKER, Service
from tests.servers.process import free_port

# Host and port of each service inside the network of the compose file.
INSIDE = {"api-server": 8080, "mlflow": 5000, "postgres": 5432, "redis": 6379, "s3": 8333}
HEALTH_OF_SCHEDULER = 8974
_PORTS = (*INSIDE.values(), HEALTH_OF_SCHEDULER)


@dataclass(frozen=True)
class ServicePaths:
    """Where everything lies and listens on this machine.

    directory: holds the home of each service, which no other service sees. secrets: as docker/secrets.sh made them.
    """

    directory: Path
    secrets: Path
    dags: Path
    ports: Mapping[int, int] = field(default_factory=lambda: {port: free_port() for port in _PORTS})

    def url(self, service: str) -> str:
        """Return the address at which a service answers here."""
        return f"http://127.0.0.1:{self.ports[INSIDE[service]]}"

    def home(self, service: str) -> Path:
        """Return the service's own directory."""
        home = self.directory / service
        home.mkdir(parents=True, exist_ok=True)
        return home

    def translated_secrets(self) -> Path:
        """Copy the secrets; those that name a host name it as it is here."""
        copies = self.directory / "secrets"
        if not copies.exists():
            shutil.copytree(self.secrets, copies)
            for file in copies.iterdir():
                text = file.read_text()
                file.chmod(0o600)
                file.write_text(self._hosts(text))
        return copies

    def translate(self, text: str, service: Service) -> str:
        """Translate one word of a command, or one variable."""
        home = self.home(service.name)
        text = self._hosts(text.replace("/run/secrets", str(self.translated_secrets())))
        text = text.replace("/opt/airflow/dags", str(self.dags)).replace("/opt/buckets.py", str(DOCKER / "buckets.py"))
        text = re.sub(r"(?<![\w/])/data\b", str(home), text).replace("0.0.0.0", "127.0.0.1")
        text = text.replace("-ip=s3", "-ip=127.0.0.1")
        return re.sub(rf"\b({'|'.join(map(str, _PORTS))})\b", lambda found: str(self.ports[int(found[1])]), text)

    def command(self, service: Service) -> list[str]:
        """Return the command as the image's entry point would run it."""
        words = [self.translate(word, service) for word in service.command]
        if service.name == "s3":
            return [str(Path(sys.executable).parent / "weed"), "-logtostderr=true", *words, *self._ports_of_s3()]
        if service.image.startswith("airflow-zen:") and words[0] not in ("bash", "python"):
            return ["airflow", *words]
        return words

    def health(self, service: Service) -> list[str]:
        """Return the command of the health check."""
        kind, *words = (self.translate(word, service) for word in service.health)
        return ["sh", "-c", *words] if kind == "CMD-SHELL" else words

    def environment(self, service: Service) -> dict[str, str]:
        """Return everything the process is told: what the compose file says, and what is different on this machine."""
        told = {name: self.translate(value, service) for name, value in service.environment.items()}
        home = str(self.home(service.name))
        return {
            "PATH": f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": home,
            "AIRFLOW_HOME": home,
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self.ports[INSIDE["api-server"]]),
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
            "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_PORT": str(self.ports[HEALTH_OF_SCHEDULER]),
            **told,
        }

    def _hosts(self, text: str) -> str:
        for host, port in INSIDE.items():
            text = re.sub(rf"\b({host}|localhost):{port}\b", f"127.0.0.1:{self.ports[port]}", text)
        return text

    def _ports_of_s3(self) -> list[str]:
        """Return options that give every other server inside SeaweedFS a port of its own."""
        names = ("master.port", "volume.port", "filer.port")
        names = (*names, *(f"{name}.grpc" for name in names), "s3.port.grpc")
        return [f"-{name}={free_port()}" for name in names]
