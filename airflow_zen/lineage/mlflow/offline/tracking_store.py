"""The file that owns mlflow: in a step's processes, its client talks to the step's relay.

MLflow loads it through the entry points `mlflow.tracking_store`. The store is MLflow's own, in every process; in a
step, the address that it asks for before each request is the relay's.
"""

from __future__ import annotations

import os
from functools import partial

from mlflow.store.tracking.rest_store import RestStore
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import MlflowHostCreds

from airflow_zen.lineage.mlflow.offline import RELAY_VARIABLE


def open_store(store_uri: str, artifact_uri: str | None = None) -> RestStore:
    """Build what MLflow's own builder for `http` and `https` builds."""
    return RestStore(partial(_host, store_uri))  # type: ignore[no-untyped-call]


def _host(store_uri: str) -> MlflowHostCreds:
    server, _, relay = os.environ.get(RELAY_VARIABLE, "").partition(" ")
    host = relay if relay and server == store_uri.rstrip("/") else store_uri
    return get_default_host_creds(host)  # type: ignore[no-untyped-call, no-any-return]
