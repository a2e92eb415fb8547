"""The answers of the pages' API. Times are seconds since the epoch, durations seconds, sizes bytes."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict  # noqa: TID253 - the API server, which imports this file, has it


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
    the number of folded steps in each state. detail: of a step in a graph over several DAGs, its DAG. size: bytes of the
    artifact, or of all. can_expand: whether `expand=<task_id>` shows its instances one by one.
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
    size: int | None = None
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

    cache: `hit`, `miss`, `off`, or empty where it is not known yet or differs between instances. resources: what it used,
    as in `StepPage`; of instances the largest memory, and the sum of all else. in_batches: whether map indexes are those
    of elements, which run in batches, so that Airflow has no task instance for each.
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
    resources: dict[str, float] = {}
    in_batches: bool = False
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


class FileFacts(Answer):
    """A file of an artifact, with the address of its download."""

    path: str
    size: int
    url: str


class ArtifactPage(Answer):
    """An artifact in full: its facts, columns, files and previews.

    facts: what the materializer recorded beside the columns. download_url: all files as one ZIP, or the file
    itself where there is one.
    """

    artifact: ArtifactFacts
    address: str
    rows: int | None
    columns: list[Column]
    more_columns: int
    facts: dict[str, Any]
    files: list[FileFacts]
    more_files: int
    libraries: dict[str, str]
    previews: list[PreviewFile]
    download_url: str


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
    with a record. in_batches: as in `StepRow`. instance: the task instance in Airflow that ran it, which for a step of a
    fused group is that of the group; null where Airflow has none, as for an element of a batch. parts: the steps of a fused
    group, on the page of the group. resources: what it used, by name, such as `peak_memory_bytes`. consumers: task
    instances of this DAG run that read its outputs, and of other DAG runs that the user may see where MLflow knows them.
    """

    key: RunKey
    recorded: bool
    state: str
    live: bool
    tries: list[int]
    in_batches: bool = False
    instance: RunKey | None = None
    parts: list[StepRow] = []
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


class MappedPoint(Answer):
    """One instance in the chart of a mapped task, with the value of the requested metric or parameter."""

    map_index: int
    state: str
    seconds: float | None
    value: float | None = None


class MappedPage(Answer):
    """The instances of a mapped task, sorted and paged; the names of parameters and metrics of all of them.

    points: every instance by index, for a chart. in_batches: as in `StepRow`.
    """

    dag_id: str
    run_id: str
    task_id: str
    live: bool
    in_batches: bool = False
    total: int
    states: dict[str, int]
    parameter_names: list[str]
    metric_names: list[str]
    rows: list[MappedRow]
    points: list[MappedPoint]
