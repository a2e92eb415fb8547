"""The answers of the pages' API. Times are seconds since the epoch, durations seconds, sizes bytes."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class Answer(BaseModel):
    """One JSON object of an answer."""

    model_config = ConfigDict(from_attributes=True, extra="forbid")


class RunKey(Answer):
    """One task instance of a DAG run; `try_number` 0 is the latest."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1
    try_number: int = 0


class ArtifactFacts(Answer):
    """An artifact as a step run names it: `argument` is the name of its argument or of its output.

    `producer` is the task instance that computed it, where the user may see its DAG. `is_readable` is whether the user may
    see its content. `version` is its label among the versions of its name, empty where it is not known.
    """

    argument: str
    name: str
    digest: str
    type: str
    shape: str
    size: int
    encoding: str
    version: str = ""
    is_new_version: bool = False
    is_model: bool = False
    is_readable: bool = True
    producer: RunKey | None = None
    mlflow_url: str = ""


class GraphNode(Answer):
    """A node of the lineage graph: one step or artifact, or `count` similar ones that are folded.

    kind: `step`, `artifact` or `model`. state: of a step, `FINISHED`, `CACHED`, `FAILED`, `KILLED`, or while it has not
    ended Airflow's state in capitals, such as `RUNNING`, `QUEUED`, `SCHEDULED`, `UPSTREAM_FAILED`, `PENDING`. states:
    the number of folded steps in each state. can_expand: whether `expand=<task_id>` shows its instances one by one.
    """

    id: str
    kind: str
    label: str
    detail: str = ""
    state: str = ""
    count: int = 1
    states: dict[str, int] = {}
    facts: dict[str, str] = {}
    task_id: str = ""
    map_index: int = -1
    name: str = ""
    digest: str = ""
    started: float | None = None
    ended: float | None = None
    seconds: float | None = None
    can_expand: bool = False
    url: str = ""


class GraphEdge(Answer):
    """A flow between two nodes by their ids; `label` is the argument or the output. `kind`: `data`, or `order`."""

    source: str
    target: str
    label: str = ""
    kind: str = "data"


class StepRow(Answer):
    """A step in the table of a DAG run; a mapped task is one row, with the number of instances in each state.

    cache: `hit`, `miss`, `off`, or empty where it is not known yet or differs between instances.
    """

    task_id: str
    state: str
    mapped: bool = False
    count: int = 1
    states: dict[str, int] = {}
    cache: str = ""
    why: str = ""
    error: str = ""
    started: float | None = None
    ended: float | None = None
    seconds: float | None = None
    seconds_saved: float = 0.0
    try_number: int = 0
    origin: RunKey | None = None
    outputs: list[ArtifactFacts] = []
    url: str = ""


class Totals(Answer):
    """Totals of a DAG run."""

    steps: int = 0
    reused: int = 0
    computed: int = 0
    failed: int = 0
    seconds_computed: float = 0.0
    seconds_saved: float = 0.0


class RunPage(Answer):
    """A DAG run: its lineage graph and its steps; without steps of ours, `steps` is empty.

    state: Airflow's state of the DAG run. live: whether it has not ended, so that the page asks again.
    """

    dag_id: str
    run_id: str
    state: str
    live: bool
    started: float | None
    ended: float | None
    totals: Totals
    steps: list[StepRow]
    nodes: list[GraphNode]
    edges: list[GraphEdge]
    mlflow_url: str = ""


class Column(Answer):
    """A column of a table with its statistics; what was not recorded is null."""

    name: str
    type: str
    nulls: int | None = None
    distinct: int | None = None
    min: Any = None
    max: Any = None
    mean: float | None = None


class PreviewFile(Answer):
    """A stored preview: `html` for a frame without rights, `image`, or `text`. url: relative to the page's base."""

    file: str
    kind: str
    size: int
    url: str


class ArtifactPage(Answer):
    """An artifact in full: its facts, columns, files and previews.

    facts: what the materializer recorded beside the columns, as text. download_url: all files as one ZIP, or the file
    itself where there is one.
    """

    artifact: ArtifactFacts
    address: str
    rows: int | None
    columns: list[Column]
    more_columns: int
    facts: dict[str, str]
    files: list[FileFacts]
    more_files: int
    libraries: dict[str, str]
    previews: list[PreviewFile]
    download_url: str


class FileFacts(Answer):
    """A file of an artifact, with the address of its download."""

    path: str
    size: int
    url: str


class KeyChange(Answer):
    """An ingredient of the cache key that differs from the most similar earlier result.

    before, after: short texts, empty for a missing one. diff: lines of a unified diff of the texts behind it.
    """

    label: str
    before: str
    after: str
    diff: list[str] = []


class KeyDiff(Answer):
    """Why a step was computed: the differences of its cache key from that of an earlier run."""

    compared_with: RunKey | None
    compared_text: str
    changes: list[KeyChange]


class Link(Answer):
    """A link to another page; `external` ones leave Airflow, others are relative to the page's base."""

    text: str
    url: str
    external: bool = False


class StepPage(Answer):
    """A task instance: what it read and made, why it ran, and what it used.

    recorded: whether a record of a step run exists; without one only the state is known. tries: the numbers of the tries
    with a record. resources: what it used, by name, such as `peak_memory_bytes`. consumers: task instances of this DAG
    run that read its outputs, and of other DAG runs that the user may see where MLflow knows them.
    """

    key: RunKey
    recorded: bool
    state: str
    live: bool
    tries: list[int]
    label: str = ""
    cache: str = ""
    why: str = ""
    error: str = ""
    origin: RunKey | None = None
    started: float | None = None
    ended: float | None = None
    seconds: float | None = None
    seconds_saved: float = 0.0
    parameters: dict[str, Any] = {}
    selected: dict[str, str] = {}
    inputs: list[ArtifactFacts] = []
    outputs: list[ArtifactFacts] = []
    metrics: dict[str, float] = {}
    metadata: dict[str, dict[str, Any]] = {}
    resources: dict[str, float] = {}
    key_diff: KeyDiff | None = None
    producers: list[RunKey] = []
    consumers: list[RunKey] = []
    links: list[Link] = []
    source: str = ""
    owner: str = ""
    code_version: str = ""


class MappedRow(Answer):
    """One instance of a mapped task."""

    map_index: int
    label: str
    state: str
    cache: str
    why: str
    error: str
    started: float | None
    ended: float | None
    seconds: float | None
    seconds_saved: float
    parameters: dict[str, Any]
    metrics: dict[str, float]
    outputs: list[ArtifactFacts]


class MappedPage(Answer):
    """The instances of a mapped task, sorted and paged; the names of parameters and metrics of all of them.

    points: every instance by index, for a chart.
    """

    dag_id: str
    run_id: str
    task_id: str
    live: bool
    total: int
    states: dict[str, int]
    parameter_names: list[str]
    metric_names: list[str]
    rows: list[MappedRow]
    points: list[MappedPoint]


class MappedPoint(Answer):
    """One instance in the chart of a mapped task, with the value of the requested metric or parameter."""

    map_index: int
    state: str
    seconds: float | None
    value: float | None = None


class PlannedRow(Answer):
    """One step of a plan: `hit`, `miss` or `unknown`, and why; seconds and size are of earlier results."""

    task_id: str
    plan: str
    why: str
    seconds: float | None = None
    size: int | None = None
    warning: str = ""


class PlanPage(Answer):
    """What a run started now would reuse. error: why there is no plan, such as a DAG file that is not on this host."""

    dag_id: str
    steps: list[PlannedRow]
    summary: str = ""
    error: str = ""


class DagRunRow(Answer):
    """A DAG run with step run records, with its totals."""

    run_id: str
    ended: float
    totals: Totals


class DagRunList(Answer):
    """The DAG runs of a DAG, newest first."""

    dag_id: str
    runs: list[DagRunRow]


class VersionPoint(Answer):
    """One version of an artifact in time; `changes` are changes of the schema from the version before, as sentences."""

    version: str
    created: float
    digest: str
    size: int
    rows: int | None
    shape: str
    producer: RunKey | None
    changes: list[str]
    metrics: dict[str, float]
    tags: list[str]


class VersionSeries(Answer):
    """The versions of a named artifact over time, oldest first; `more` is the number of older ones that are left out."""

    name: str
    points: list[VersionPoint]
    more: bool


class DagArtifacts(Answer):
    """The names of the artifacts that a DAG makes, with their versions over time."""

    dag_id: str
    series: list[VersionSeries]


class Difference(Answer):
    """One fact that differs; `subject` is a parameter, an output, a column, a metric."""

    subject: str
    fact: str
    before: Any
    after: Any


class StepComparison(Answer):
    """One step in two DAG runs; `before` and `after` are null where the run does not have it."""

    task_id: str
    map_index: int
    same_outputs: bool
    before: StepRow | None
    after: StepRow | None
    differences: list[Difference]


class RunComparison(Answer):
    """Two DAG runs of one DAG, side by side."""

    dag_id: str
    before: DagRunRow
    after: DagRunRow
    steps: list[StepComparison]


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
    """A registered model with its latest versions."""

    name: str
    description: str
    aliases: dict[str, str]
    versions: list[ModelVersionRow]
    url: str


class ModelsPage(Answer):
    """The registered models; error: why MLflow did not answer."""

    models: list[ModelRow]
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
    """What one DAG, or one name, has in the store: versions, contents and their bytes."""

    name: str
    dag_id: str
    versions: int
    artifacts: int
    size: int


class StoragePage(Answer):
    """What the named artifacts that the user may see have in the store; contents with several names count once in the sum."""

    artifacts: int
    size: int
    rows: list[StorageRow]
    root: str
