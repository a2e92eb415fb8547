"""Stacks on a root, and values loaded from them that live as long as the process."""

import tempfile
from pathlib import Path

from airflow_zen.artifacts.store import ArtifactStore
from airflow_zen.caching.step_cache import StepCache
from airflow_zen.materializers.registry import default_registry
from airflow_zen.runs.records import StepRunRecords
from airflow_zen.stack import Stack
from airflow_zen.transports import open_transport

DIRECTORY = tempfile.TemporaryDirectory(prefix="views-")


def open_stack(root, options, local_cache=None):
    transport = open_transport(root, options)
    return Stack(
        ArtifactStore(root, transport, local_cache), default_registry(), StepCache(transport), StepRunRecords(transport)
    )


def temporary_directory():
    return Path(tempfile.mkdtemp(dir=DIRECTORY.name))


def load(stack, ref, wanted):
    return stack.load(ref, temporary_directory(), wanted)
