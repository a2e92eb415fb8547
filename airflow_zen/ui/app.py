"""The FastAPI application behind the pages; only the API server imports it, and only for its first request."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import Depends, FastAPI, Query, Request
from fastapi.responses import JSONResponse
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from airflow_zen.errors import ArtifactNotFound, ArtifactRefused, ZenError
from airflow_zen.ui import catalogue_routes, dag_routes
from airflow_zen.ui.access import ContentOfDag, Name, OptionalName, RequestAccess, RunsOfDag, not_found
from airflow_zen.ui.artifact_page import Scheme, answer_download, answer_preview, artifact_page
from airflow_zen.ui.facts import output_facts
from airflow_zen.ui.mapped_page import mapped_page
from airflow_zen.ui.mlflow_links import dag_run_links
from airflow_zen.ui.mount import URL_PREFIX
from airflow_zen.ui.responses import ArtifactPage, MappedPage, RunKey, RunPage, StepPage
from airflow_zen.ui.run_page import RunSnapshot, run_page
from airflow_zen.ui.stacks import stacks
from airflow_zen.ui.step_page import find_ref, input_facts, step_page

log = logging.getLogger("airflow_zen.ui")

MapIndex = Annotated[int, Query(ge=-1, le=2**31)]
TryNumber = Annotated[int, Query(ge=0, le=2**31)]

# An answer is data for the page that asked: nothing in it runs, and no other site may frame it.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'self'; sandbox",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

# The address of the bundle names its version.
_STATIC_HEADERS = {"Cache-Control": "public, max-age=31536000, immutable"}


class AsciiJsonResponse(JSONResponse):
    """JSON in ASCII, which holds every text that a document in the store can hold."""

    def render(self, content: Any) -> bytes:
        """Return the encoded answer."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()


app = FastAPI(
    title="Airflow zen", docs_url=None, redoc_url=None, openapi_url=None, default_response_class=AsciiJsonResponse
)


@app.middleware("http")
async def add_headers(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Add to each response the headers that it does not set itself."""
    response = await call_next(request)
    if "/static/" in request.url.path and response.status_code == 200:
        response.headers.update(_STATIC_HEADERS)
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    return response


@app.exception_handler(ZenError)
def answer_error(_request: Request, error: Exception) -> Response:
    """Answer 404 for what is not in the store, and 503 with the reason for a store that cannot be read."""
    if isinstance(error, ArtifactNotFound | ArtifactRefused):
        return AsciiJsonResponse({"detail": str(error)}, 404)
    log.warning("A page cannot be shown: %s", error)
    return AsciiJsonResponse({"detail": str(error)}, 503)


@app.get("/api/dags/{dag_id}/run")
def read_run(
    dag_id: RunsOfDag,
    access: RequestAccess,
    run_id: Name,
    expand: Annotated[tuple[str, ...], Query(max_length=50)] = (),
) -> RunPage:
    """Return the lineage graph and the steps of a DAG run."""
    page = run_page(stacks.of_run(dag_id, run_id), dag_id, run_id, access, expand)
    if page is None:
        raise not_found()
    return page


@app.get("/api/dags/{dag_id}/step")
def read_step(
    dag_id: RunsOfDag,
    access: RequestAccess,
    run_id: Name,
    task_id: Name,
    map_index: MapIndex = -1,
    try_number: TryNumber = 0,
) -> StepPage:
    """Return what a task instance read and made, and why it ran."""
    key = RunKey(dag_id=dag_id, run_id=run_id, task_id=task_id, map_index=map_index, try_number=try_number)
    page = step_page(stacks.of_run(dag_id, run_id), key, access)
    if page is None:
        raise not_found()
    return page


@app.get("/api/dags/{dag_id}/mapped")
def read_mapped(
    dag_id: RunsOfDag,
    access: RequestAccess,
    run_id: Name,
    task_id: Name,
    offset: Annotated[int, Query(ge=0, le=2**31)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    sort: Name = "map_index",
    descending: bool = False,
    value: OptionalName = "",
) -> MappedPage:
    """Return the instances of a mapped task."""
    opened = stacks.of_run(dag_id, run_id)
    snapshot = RunSnapshot.read(opened, dag_id, run_id, access, task_id)
    if snapshot is None or not (snapshot.runs or snapshot.instances):
        raise not_found()
    return mapped_page(
        opened,
        snapshot,
        task_id,
        access,
        offset=offset,
        limit=limit,
        sort=sort,
        descending=descending,
        value=value,
    )


class StepArtifact:
    """An artifact that a step run read or made, if the user may read its content."""

    def __init__(
        self,
        dag_id: ContentOfDag,
        access: RequestAccess,
        run_id: Name,
        task_id: Name,
        side: Literal["inputs", "outputs"],
        argument: Name,
        map_index: MapIndex = -1,
        try_number: TryNumber = 0,
    ) -> None:
        self.opened = stacks.of_run(dag_id, run_id)
        self.query = {"run_id": run_id, "task_id": task_id, "map_index": map_index, "try_number": try_number}
        self.query |= {"side": side, "argument": argument}
        self.route = f"{URL_PREFIX[1:]}/api/dags/{quote(dag_id, safe='')}"
        records = self.opened.dag_run(dag_id, run_id, task_id if side == "outputs" else "")
        tries = {run.id.try_number: run for run in records.tries(task_id, map_index)}
        run = tries.get(try_number or max(tries, default=0))
        ref = find_ref(run, side, argument) if run else None
        if run is None or ref is None:
            raise not_found()
        found = input_facts(run, records, self.opened, access) if side == "inputs" else output_facts(run, access)
        self.facts = next(each for each in found if each.argument == argument)
        if not self.facts.is_readable:
            raise not_found()
        links = dag_run_links(self.opened, dag_id, run_id)
        self.facts = self.facts.model_copy(update={"mlflow_url": links.artifact_url(ref)})
        self.ref = self.opened.stack.store.relocate(ref)


FoundArtifact = Annotated[StepArtifact, Depends()]


@app.get("/api/dags/{dag_id}/artifact")
def read_artifact(found: FoundArtifact) -> ArtifactPage:
    """Return an artifact that a step run read or made."""
    return artifact_page(found.opened, found.facts, found.ref, found.route, found.query)


@app.get("/api/dags/{dag_id}/preview", response_class=Response)
def read_preview(found: FoundArtifact, file: Name, scheme: Scheme | None = None) -> Response:
    """Return a stored preview, as a document without an origin."""
    return answer_preview(found.opened, found.ref, file, scheme)


@app.get("/api/dags/{dag_id}/download", response_class=Response)
def download(found: FoundArtifact, file: OptionalName = "") -> Response:
    """Return the files of an artifact as an attachment."""
    return answer_download(found.opened.stack, found.ref, file)


app.include_router(dag_routes.router)
app.include_router(catalogue_routes.router)
app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static", check_dir=False))
