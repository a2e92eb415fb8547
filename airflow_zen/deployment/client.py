"""The client of the deployment service of this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_zen.deployment.base import Deployment, DeploymentRequest, LocalTarget
    from airflow_zen.stack import Stack


def deploy_locally(target: LocalTarget, request: DeploymentRequest, stack: Stack) -> tuple[Deployment, bool]:
    """Make the environment of the server, and let the service serve the model."""
    raise NotImplementedError


class ServiceClient:
    """Requests to the deployment service of this machine."""

    @classmethod
    def configured(cls) -> ServiceClient:
        """Return that of the service in `[zen] deployments_dir`."""
        raise NotImplementedError

    def stop(self, name: str) -> None:
        """End a deployment."""
        raise NotImplementedError

    def logs(self, name: str, lines: int) -> str:
        """Return the end of a server's log."""
        raise NotImplementedError

    def describe_state(self, name: str) -> str:
        """Return what is known of a deployment now."""
        raise NotImplementedError
