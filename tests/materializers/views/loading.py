"""Stacks on a root, and values loaded from them for as long as the process lives."""

import tempfile
from pathlib import Path

from airflow_zen.artifacts.store import ArtifactStore
from airflow_zen.caching.step_cache import StepCache
from airflow_zen.materializers.registry import default_registry
from airflow_zen.runs.records import StepRunRecords
from airflow_zen.stack import Stack
from airflow_zen.transports.base import open_transport

LENT = tempfile.TemporaryDirectory(prefix="views-")


def open_stack(root, options, local_cache=None):
    transport = open_transport(root, options)
    return Stack(
        ArtifactStore(root, transport, local_cache), default_registry(), StepCache(transport), StepRunRecords(transport)
    )


def lent():
    return Path(tempfile.mkdtemp(dir=LENT.name))


def load(stack, ref, wanted):
    return stack.load(ref, lent(), wanted)
