"""What the plugin registers: the pages, and their application, which the first request imports."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from importlib import import_module
from typing import Any

import airflow_zen

# Where Airflow mounts the application; addresses of the pages are relative to Airflow's own.
URL_PREFIX = "/zen"

Message = MutableMapping[str, Any]


class PagesApp:
    """The ASGI application of the pages: it imports the real one for the first request, so that Airflow starts sooner."""

    def __init__(self) -> None:
        self._app: Any = None

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Pass a request on."""
        if self._app is None:
            self._app = (await asyncio.to_thread(import_module, "airflow_zen.ui.app")).app
        await self._app(scope, receive, send)


def fastapi_apps(airflow_version: str) -> list[dict[str, Any]]:
    """Return the registration of the application; none in a release of Airflow that cannot show its pages."""
    if not airflow_zen.has_pages(airflow_version):
        return []
    return [{"app": PagesApp(), "url_prefix": URL_PREFIX, "name": "Airflow zen"}]


def react_apps(airflow_version: str) -> list[dict[str, Any]]:
    """Return the registrations of the pages; the bundle sets a global variable for the name of each."""
    if not airflow_zen.has_pages(airflow_version):
        return []
    bundle_url = f"{URL_PREFIX[1:]}/static/main.js?v={airflow_zen.__version__}"
    pages = (
        {"name": "Lineage", "destination": "dag_run", "url_route": "zen-run"},
        {"name": "Artifacts", "destination": "task_instance", "url_route": "zen-step"},
        {"name": "Mapped steps", "destination": "task", "url_route": "zen-task"},
        {"name": "Artifact history", "destination": "dag", "url_route": "zen-dag"},
        {"name": "Artifact catalogue", "destination": "nav", "url_route": "zen-artifacts", "category": "browse"},
    )
    return [{"bundle_url": bundle_url, **page} for page in pages]
