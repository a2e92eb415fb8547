"""What a lineage graph is: steps and artifacts, and which went into which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class NodeKind(StrEnum):
    """What a node stands for."""

    STEP = "step"
    ARTIFACT = "artifact"
    MODEL = "model"


@dataclass(frozen=True)
class Node:
    """One step or one artifact, or `count` alike that are shown as one.

    `state` is the step's, in MLflow's words, or `CACHED`; artifacts have none. `facts` are what a
    reader may ask for, in order. `url` is the page in MLflow. Times are seconds since the epoch.
    """

    id: str
    kind: NodeKind
    label: str
    detail: str = ""
    state: str = ""
    count: int = 1
    facts: Mapping[str, str] = field(default_factory=dict)
    url: str = ""
    started: float | None = None
    ended: float | None = None


@dataclass(frozen=True)
class Edge:
    """What flows from one node to another; `label` is the name of the argument or of the output."""

    source: str
    target: str
    label: str = ""


@dataclass(frozen=True)
class Graph:
    """The lineage of one DAG run; its edges name nodes by id, and may form a cycle."""

    dag_id: str
    run_id: str
    nodes: tuple[Node, ...] = ()
    edges: tuple[Edge, ...] = ()

    @property
    def steps(self) -> tuple[Node, ...]:
        """The nodes that are steps."""
        return tuple(node for node in self.nodes if node.kind is NodeKind.STEP)

    @property
    def artifacts(self) -> tuple[Node, ...]:
        """The nodes that are artifacts, models among them."""
        return tuple(node for node in self.nodes if node.kind is not NodeKind.STEP)
