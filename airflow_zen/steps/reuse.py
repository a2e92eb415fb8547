"""Look for an earlier result that may be given in the place of a new one."""

from __future__ import annotations

from datetime import timedelta

from airflow_zen.caching.cache import CacheEntry
from airflow_zen.caching.history import explain_miss
from airflow_zen.caching.policy import Cache
from airflow_zen.lineage.step_run import StepRunId
from airflow_zen.stack import Stack
from airflow_zen.steps.key import CacheKey
from airflow_zen.steps.step import Step


def uncacheable_reason(step: Step) -> str:
    """Say why a step is run each time, whatever its arguments; empty where it is not."""
    if step.outputs.names or step.cache_always:
        return ""
    return "it returns nothing, so there is nothing to reuse"


def find_valid_entry(key: CacheKey, policy: Cache, stack: Stack) -> tuple[CacheEntry | None, str]:
    """Find an entry that is young enough and whose artifacts all still exist.

    Says why one that is known cannot serve; a key that was never seen gives no reason.
    """
    entry = stack.cache.get(key.key)
    if entry is None:
        return None, ""
    age = stack.clock() - entry.created
    if age > policy.ttl_seconds:
        return (
            None,
            f"the result of {entry.origin} is {_duration_text(age)} old, and is kept for {_duration_text(policy.ttl_seconds)}",
        )
    if gone := stack.store.missing(entry.outputs.values()):
        return None, f"the result of {entry.origin} is known, but its artifact {gone[0].digest[:12]} is gone"
    return entry, ""


def miss_reason(key: CacheKey, stack: Stack, run: StepRunId) -> str:
    """Say what differs from the closest of the task's earlier results; one request."""
    try:
        history = stack.cache.history.recent_records(run.dag_id, run.task_id)
    except Exception as error:  # noqa: BLE001 - a remark is never worth a step
        return f"what was computed before cannot be read: {error}"
    return explain_miss(key.ingredients, key.sources, history)


def _duration_text(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
