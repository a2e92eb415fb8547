"""The requests that change or describe deployments, under `/-/` of the deployment service."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from airflow_zen.deployment.gateway import error_answer, json_answer
from airflow_zen.deployment.replica import ReplicaSpec, read_tail
from airflow_zen.deployment.state import decode, take_model
from airflow_zen.errors import ZenError

if TYPE_CHECKING:
    from airflow_zen.deployment.service import DeploymentService


class Control:
    """Answers requests under `/-/`, which need the service's token, and passes on all others."""

    def __init__(self, service: DeploymentService, token: str) -> None:
        self._service, self._token = service, token

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request of either kind."""
        if not request.path.startswith("/-/"):
            return await self._service.gateway.handle(request)
        kind, _, name = request.path.removeprefix("/-/").partition("/")
        if kind == "health":
            return json_answer({"directory": self._service.directory})
        given = request.headers.get("Authorization", "")
        if not secrets.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
            return error_answer(401, "This is about deployments: it needs the token of the service.")
        try:
            return await self._answer(request.method, kind, name, request)
        except KeyError as error:
            return error_answer(404, f"There is no {error.args[0]!r}.")
        except (ZenError, msgspec.MsgspecError, OSError) as error:
            return error_answer(400, str(error))

    async def _answer(self, method: str, kind: str, name: str, request: web.BaseRequest) -> web.StreamResponse:
        service = self._service
        match method, kind:
            case "PUT", "deployments":
                spec = decode(await request.content.read(), ReplicaSpec)
                operation = service.deploy(*await asyncio.to_thread(take_model, spec, service.directory))
                return json_answer(operation, 202)
            case "GET", "operations":
                return json_answer(service.operations[name])
            case "GET", "deployments":
                return json_answer(service.states(name))
            case "GET", "logs":
                lines = int(request.query.get("lines", "100"))
                return json_answer(await asyncio.to_thread(read_tail, service.gateway.active[name].log, lines))
            case "DELETE", "deployments":
                return json_answer(await service.stop(name))
            case "POST", "predictions":
                predictions = service.gateway.predictions
                await asyncio.to_thread(predictions.flush)
                return json_answer({"written": predictions.written, "dropped": predictions.dropped})
        raise KeyError(f"{method} /-/{kind}")
