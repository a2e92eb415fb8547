"""Promises of what a step yields as metadata of assets."""

from collections.abc import Generator, Iterator
from datetime import datetime
from typing import Annotated

import numpy as np
import pandas as pd
import pytest
from airflow.sdk import Asset, AssetAlias, Metadata, dag

import airflow_zen
from airflow_zen import Artifact, Output, ml_step
from airflow_zen.steps.outputs import declared_outputs, output_types
from tests.harness import run_dag

pytestmark = pytest.mark.usefixtures("root")

FEATURES = Artifact("flights/features")
OTHER = Asset("s3://b/other")


def pipeline(build):
    @dag(dag_id="d", schedule=None, start_date=datetime(2026, 1, 1))
    def d():
        build()

    return d()


def events_of(function, **options):
    """Run one step that has an outlet of the user's; return its result, and the extras of the events by asset."""
    run = run_dag(pipeline(ml_step(outlets=[OTHER], **options)(function)))
    assert run.tasks[0].state == "success", run.tasks[0].error
    name = function.__name__
    wires = run.xcom(name)
    value = [airflow_zen.load(wire) for wire in wires.values()] if "digest" not in wires else airflow_zen.load(wires)
    return value, run.task(name).events


def yields_and_returns():
    yield Metadata(OTHER, {"source": "crm", "auc": np.float32(0.5)})
    return 5


def yields_for_its_own_asset() -> Annotated[int, FEATURES]:
    yield Metadata(FEATURES.asset, {"owner": "crm"})
    yield Metadata(OTHER, {"source": "crm"})
    return 6


def yields_and_declares_both() -> Generator[Metadata, None, Annotated[int, FEATURES]]:
    yield Metadata(FEATURES.asset, {"owner": "crm"})
    return 7


def yields_and_returns_several() -> Output(train=int, test=list):
    yield Metadata(OTHER, {"source": "crm"})
    return 1, [2]


def yields_among_batches() -> Iterator[pd.DataFrame]:
    yield Metadata(OTHER, {"source": "crm"})
    yield pd.DataFrame({"a": [1]})
    yield Metadata(OTHER, {"pages": 2})
    yield pd.DataFrame({"a": [2]})


def yields_among_undeclared_batches():
    yield Metadata(OTHER, {"source": "crm"})
    yield pd.DataFrame({"a": [1]})
    yield Metadata(OTHER, {"pages": 2})


def test_metadata_is_yielded_before_the_result():
    """`yield Metadata(asset, extra)`, then `return value`, stores the value, and the event of the asset has the extras."""
    assert events_of(yields_and_returns) == (5, {OTHER.name: {"source": "crm", "auc": 0.5}})
    value, events = events_of(yields_and_returns_several)
    assert (value, events[OTHER.name]) == ([1, [2]], {"source": "crm"})


@pytest.mark.parametrize(("function", "expected"), [(yields_for_its_own_asset, 6), (yields_and_declares_both, 7)])
def test_metadata_for_a_named_output_is_added_to_its_event(function, expected):
    """Extras for the asset of the step's own output are beside what the event says of the content."""
    value, events = events_of(function)
    assert value == expected
    own = events["flights/features"]
    assert (own["owner"], own["name"], len(own["digest"])) == ("crm", "flights/features", 64)


@pytest.mark.parametrize(
    ("function", "rows", "extra"),
    [
        (yields_among_batches, [1, 2], {"source": "crm", "pages": 2}),
        (yields_among_undeclared_batches, [1], {"source": "crm", "pages": 2}),
    ],
)
def test_metadata_among_batches_is_no_batch(function, rows, extra):
    """Metadata that is yielded among the batches of a table is added to the event, and the table has only the batches."""
    value, events = events_of(function)
    assert list(value["a"]) == rows
    assert events == {OTHER.name: extra}


def test_annotations_as_text_name_the_output_behind_metadata():
    """`Generator[Metadata, None, T]` declares the output T, also where annotations are text."""
    text = Annotated[int, FEATURES]
    for name in ("Generator[Metadata, None, text]", "Generator[Metadata, None, 'Annotated[int, FEATURES]']"):

        def step(): ...

        step.__annotations__["return"] = name
        step.__globals__["text"] = text
        assert ml_step(step)
        assert declared_outputs(step).artifact_names == {"output": "flights/features"}
        assert output_types(step, declared_outputs(step)) == {"output": int}


def test_metadata_through_an_alias():
    """Metadata with an alias adds an event of the asset to the alias."""
    alias = AssetAlias("found")

    @ml_step(outlets=[alias])
    def find() -> int:
        yield Metadata(OTHER, {"source": "crm"}, alias=alias)
        return 1

    run = run_dag(pipeline(find))
    assert airflow_zen.load(run.xcom("find")) == 1
    sent = [message for message in run.supervisor.sent_messages if type(message).__name__ == "SucceedTask"]
    assert [event for event in sent[0].outlet_events if event.get("source_alias_name") == "found"]
