"""The answers of the catalogue: named artifacts, models, deployments and storage."""

from __future__ import annotations

from typing import Any

from airflow_zen.ui.dag_responses import Difference
from airflow_zen.ui.responses import Answer, ArtifactPage, GraphEdge, GraphNode, RunKey


class CatalogueRow(Answer):
    """The newest version of a named artifact, or a tagged one."""

    name: str
    version: str
    created: float
    type: str
    shape: str
    size: int
    digest: str
    tags: list[str]
    metadata: dict[str, Any]
    is_model: bool
    producer: RunKey | None


class CataloguePage(Answer):
    """A page of the catalogue; `tags` are all tags of what the user may see."""

    total: int
    artifacts: list[CatalogueRow]
    tags: list[str]


class NamedArtifactPage(Answer):
    """One version of a named artifact, with the others of its name, newest first."""

    row: CatalogueRow
    page: ArtifactPage
    versions: list[CatalogueRow]
    more: bool


class ArtifactComparison(Answer):
    """The differences between two versions."""

    same: bool
    before: CatalogueRow
    after: CatalogueRow
    differences: list[Difference]


class LineagePage(Answer):
    """The ancestry of an artifact over all DAGs, and its readers, as a graph; runs of DAGs out of sight are left out."""

    nodes: list[GraphNode]
    edges: list[GraphEdge]
    hidden: int
    error: str = ""


class ModelVersionRow(Answer):
    """A version of a registered model."""

    version: str
    created: float
    aliases: list[str]
    metrics: dict[str, float]
    producer: RunKey | None
    url: str


class ModelRow(Answer):
    """A registered model with its latest versions; `more`: whether it has older ones."""

    name: str
    description: str
    aliases: dict[str, str]
    versions: list[ModelVersionRow]
    more: bool
    url: str


class ModelsPage(Answer):
    """The registered models; `more`: whether others are left out. error: why MLflow did not answer."""

    models: list[ModelRow]
    more: bool = False
    error: str = ""


class DeploymentRow(Answer):
    """A deployment of a model."""

    name: str
    model: str
    version: str
    state: str
    target: str
    url: str
    owner: str
    since: str


class DeploymentsPage(Answer):
    """The deployments."""

    deployments: list[DeploymentRow]


class StorageRow(Answer):
    """What one name has in the store: versions, contents and their bytes; `more`: whether older ones are not counted."""

    name: str
    dag_id: str
    versions: int
    artifacts: int
    size: int
    more: bool


class StoragePage(Answer):
    """What the named artifacts that the user may see have in the store; contents with several names count once in the sum.

    more: whether there are names that are not counted.
    """

    artifacts: int
    size: int
    rows: list[StorageRow]
    more: bool
    root: str
