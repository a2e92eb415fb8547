"""Stacks on a root, and values loaded from them that live as long as the process."""

import io
import subprocess
import sys
import tempfile
from pathlib import Path

import polars as pl

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


_COLLECT = "import sys, polars; polars.LazyFrame.deserialize(sys.stdin.buffer).collect().write_ipc(sys.stdout.buffer)"


def collect_apart(plan):
    """Collect a scan of S3 in a process of its own.

    After it, polars 2.1 reads the environment of its process ten times a second for ever, in a thread; the next test that
    sets a variable at that moment ends the process by SIGSEGV.
    """
    collected = subprocess.run(
        [sys.executable, "-c", _COLLECT], input=plan.serialize(), stdout=subprocess.PIPE, check=True
    )
    return pl.read_ipc(io.BytesIO(collected.stdout))
