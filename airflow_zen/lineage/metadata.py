"""Metadata that user code attaches to its step, to an input or to an output while it runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
from typing import Any

from airflow_zen.errors import MetadataError

Facts = dict[str, Any]

_RESERVED = ("zen.", "mlflow.")


class MetadataCollector:
    """Collect the metadata of one step run by its subject: `""`, `input:<argument>` or `output:<name>`.

    inputs, outputs: the names of the artifacts that may be a subject.
    """

    def __init__(self, inputs: frozenset[str], outputs: frozenset[str]) -> None:
        self._known = {"input": inputs, "output": outputs}
        self._facts: dict[str, Facts] = {}
        self._lock = Lock()

    def add(self, facts: Mapping[str, Any], kind: str, name: str) -> None:
        """Add facts; a later value replaces an earlier one of the same name. Raises `MetadataError`."""
        if kind and name not in self._known[kind]:
            known = ", ".join(map(repr, sorted(self._known[kind]))) or "none"
            raise MetadataError(f"log_metadata() was given {kind}={name!r}, but the artifact {kind}s are: {known}.")
        for key in map(str, facts):
            if not key or key.startswith(_RESERVED):
                raise MetadataError(
                    f"log_metadata() takes names that are not empty and do not begin with 'zen.' or 'mlflow.', got {key!r}."
                )
        with self._lock:
            self._facts.setdefault(f"{kind}:{name}" if kind else "", {}).update(facts)

    @property
    def facts(self) -> Mapping[str, Facts]:
        """The metadata collected so far."""
        with self._lock:
            return {about: dict(facts) for about, facts in self._facts.items()}


_current: ContextVar[MetadataCollector | None] = ContextVar("airflow_zen_metadata", default=None)
_active: list[MetadataCollector] = []


@contextmanager
def collect_metadata(collector: MetadataCollector) -> Iterator[None]:
    """Let `log_metadata` write into a collector during the block, from threads of the step too."""
    token = _current.set(collector)
    _active.append(collector)
    try:
        yield
    finally:
        _active.remove(collector)
        _current.reset(token)


def log_metadata(facts: Mapping[str, Any], *, input: str = "", output: str = "") -> None:  # noqa: A002 - the user's word
    """Attach facts to the running step, or to the artifact of one of its arguments or outputs.

    output: the name in `Output(...)`, or "output" where there is one. Facts are kept in the step run record and shown
    in MLflow: numbers as metrics, others as tags, and those about a model on the model's page. Raises `MetadataError`
    outside a step, and for a name that is not an artifact of it.
    """
    collector = _current.get() or (_active[0] if len(_active) == 1 else None)
    if collector is None:
        raise MetadataError("log_metadata() was called outside a step. Call it in a function decorated with @ml_step.")
    if input and output:
        raise MetadataError(f"log_metadata() takes input={input!r} or output={output!r}, not both.")
    collector.add(facts, "input" if input else "output" if output else "", input or output)
