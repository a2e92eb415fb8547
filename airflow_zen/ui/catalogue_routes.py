"""The routes of the catalogue."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from airflow_zen.ui.access import Name, OptionalName, RequestAccess
from airflow_zen.ui.artifact_page import Scheme, answer_download, answer_preview
from airflow_zen.ui.catalogue import (
    catalogue_page,
    compare_versions,
    find_version,
    lineage_page,
    named_artifact_page,
    storage_page,
)
from airflow_zen.ui.catalogue_responses import (
    ArtifactComparison,
    CataloguePage,
    DeploymentsPage,
    LineagePage,
    ModelsPage,
    NamedArtifactPage,
    StoragePage,
)
from airflow_zen.ui.mount import URL_PREFIX
from airflow_zen.ui.served_models import deployments_page, models_page
from airflow_zen.ui.stacks import stacks

router = APIRouter(prefix="/api/catalogue")
_ROUTE = f"{URL_PREFIX[1:]}/api/catalogue"


class NamedVersion:
    """A version of a named artifact that the user may see."""

    def __init__(self, access: RequestAccess, name: Name, version: Name = "latest") -> None:
        self.opened, self.access = stacks.get(), access
        self.version = find_version(self.opened, name, version, access)


FoundVersion = Annotated[NamedVersion, Depends()]


@router.get("")
def read_catalogue(
    access: RequestAccess,
    search: OptionalName = "",
    tag: OptionalName = "",
    offset: Annotated[int, Query(ge=0, le=2**31)] = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> CataloguePage:
    """Return the named artifacts."""
    return catalogue_page(stacks.get(), access, search, tag, offset, limit)


@router.get("/artifact")
def read_named_artifact(found: FoundVersion) -> NamedArtifactPage:
    """Return one version in full."""
    return named_artifact_page(found.opened, found.version, found.access, _ROUTE)


@router.get("/preview", response_class=Response)
def read_named_preview(found: FoundVersion, file: Name, scheme: Scheme | None = None) -> Response:
    """Return a stored preview, as a document without an origin."""
    return answer_preview(found.opened, found.version.ref, file, scheme)


@router.get("/download", response_class=Response)
def download_named(found: FoundVersion, file: OptionalName = "") -> Response:
    """Return the files of a version as an attachment."""
    return answer_download(found.opened.stack, found.version.ref, file)


@router.get("/diff")
def read_difference(access: RequestAccess, name: Name, before: Name, after: Name = "latest") -> ArtifactComparison:
    """Return the differences between two versions of a name."""
    opened = stacks.get()
    old, new = (find_version(opened, name, version, access) for version in (before, after))
    return compare_versions(opened, old, new, access)


@router.get("/lineage")
def read_lineage(found: FoundVersion) -> LineagePage:
    """Return where a version comes from, and who read it."""
    return lineage_page(found.opened, found.version, found.access)


@router.get("/models")
def read_models(access: RequestAccess, search: OptionalName = "") -> ModelsPage:
    """Return the registered models."""
    return models_page(stacks.get(), access, search)


@router.get("/deployments")
def read_deployments(access: RequestAccess) -> DeploymentsPage:
    """Return the deployments."""
    return deployments_page(stacks.get(), access)


@router.get("/storage")
def read_storage(access: RequestAccess) -> StoragePage:
    """Return what the named artifacts have in the store."""
    return storage_page(stacks.get(), access)
