"""Artifacts as MLflow datasets; `mlflow.data.from_pandas` would read the data again (45 s for 1M × 20)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_zen.lineage.mlflow.encoding import ELLIPSIS, short_digest, shorten, shorten_name
from airflow_zen.markup import format_bytes

if TYPE_CHECKING:
    from airflow_zen.artifacts.ref import ArtifactRef

_SOURCE_TYPES = {"": "local", "file": "local", "s3a": "s3", "gcs": "gs"}

# The first pattern found in the lower-case type name decides.
_COLUMN_TYPES = (
    (r"list|struct|map|array|dictionary<|\[.*\[", "any"),
    (r"datetime|timestamp|date", "datetime"),
    (r"bool", "boolean"),
    (r"int64|uint32|uint64|long", "long"),
    (r"int", "integer"),
    (r"float64|double", "double"),
    (r"float|half", "float"),
    (r"binary|bytes", "binary"),
    (r"str|utf8|object|categor|enum|text", "string"),
)

# Limits of MLflow, in characters, but for the text in a profile.
_MAX_NAME, _MAX_SCHEMA, _MAX_PROFILE_TEXT = 500, 1_048_575, 500


def dataset_inputs(
    inputs: Iterable[ArtifactRef], outputs: Iterable[ArtifactRef], summaries: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the `datasets` of one `log-inputs` request, each with its context.

    MLflow attaches a dataset to a run once, so an artifact that is both read and written under one name is listed as an
    output.
    """
    listed: dict[tuple[str, str], dict[str, Any]] = {}
    for context, refs in (("output", outputs), ("input", inputs)):
        for ref in refs:
            dataset = _dataset(ref, summaries.get(ref.digest, {}))
            tags = [{"key": "mlflow.data.context", "value": context}]
            listed.setdefault((dataset["name"], dataset["digest"]), {"dataset": dataset, "tags": tags})
    return list(listed.values())


def is_mlflow_model(ref: ArtifactRef) -> bool:
    """Whether an artifact is an MLflow Model directory."""
    library, _, version = ref.encoding.rpartition("@")
    return library.endswith(".mlflow") and version.isdecimal()


def dataset_name(ref: ArtifactRef) -> str:
    """Return the name under which MLflow lists an artifact."""
    return shorten_name(ref.name or ref.encoding, _MAX_NAME)


def schema_json(columns: Sequence[Mapping[str, Any]]) -> str:
    """Return `{"name", "type"}` columns as an MLflow schema; its last column counts those beyond the limit."""
    specs: list[dict[str, Any]] = []
    size = 0
    for number, column in enumerate(columns):
        spec = {"type": mlflow_column_type(str(column["type"])), "name": str(column["name"]), "required": True}
        size += len(json.dumps(spec)) + 2
        if size > _MAX_SCHEMA - 200:
            specs.append({"type": "any", "name": f"{ELLIPSIS} {len(columns) - number} more columns", "required": False})
            break
        specs.append(spec)
    return json.dumps({"mlflow_colspec": specs})


def mlflow_column_type(name: str) -> str:
    """Return MLflow's name for a column type of pandas, Arrow, Polars or numpy; `any` where it has none."""
    name = name.lower()
    return next((found for pattern, found in _COLUMN_TYPES if re.search(pattern, name)), "any")


def _dataset(ref: ArtifactRef, summary: Mapping[str, Any]) -> dict[str, Any]:
    scheme = ref.uri.partition("://")[0] if "://" in ref.uri else ""
    dataset = {
        "name": dataset_name(ref),
        "digest": short_digest(ref.digest),
        "source_type": _SOURCE_TYPES.get(scheme, scheme),
        "source": json.dumps({"uri": ref.uri}),
        "profile": json.dumps(_profile(ref, summary), ensure_ascii=False),
    }
    columns = summary.get("columns")
    if isinstance(columns, list) and columns:
        dataset["schema"] = schema_json(columns)
    return dataset


def _profile(ref: ArtifactRef, summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return what MLflow's page of a dataset lists: the scalars of the summary, then the facts of the artifact."""
    facts: dict[str, Any] = {
        name: shorten(value, _MAX_PROFILE_TEXT) if isinstance(value, str) else value
        for name, value in summary.items()
        if isinstance(value, str | int | float)
    }
    facts.setdefault("shape", ref.shape)
    facts |= {"size": format_bytes(ref.size), "type": ref.type, "encoding": ref.encoding, "sha256": ref.digest}
    return {name: value for name, value in facts.items() if value != ""}
