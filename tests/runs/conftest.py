"""Step runs and refs, as in the tests of lineage."""

from tests.lineage.conftest import (
    client,
    dag_id,
    ended,
    new_recorder,
    recorder,
    records,
    ref,
    root,
    step,
    transport,
)

__all__ = [
    "client",
    "dag_id",
    "ended",
    "new_recorder",
    "recorder",
    "records",
    "ref",
    "root",
    "step",
    "transport",
]
