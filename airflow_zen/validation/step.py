"""The functions that `validate` makes steps of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_zen.validation.report import ValidationReport

if TYPE_CHECKING:
    import pyarrow.dataset as ds


def validate_table(
    table: ds.Dataset,
    validator: Any,
    reference: ds.Dataset | None = None,
    sample: int | None = None,
    severity: Mapping[str, str] | None = None,
) -> ValidationReport:
    """Return the report of a stored table, which is read batch by batch, or as a sample."""
    from airflow_zen.validation.run import run_validator

    return run_validator(validator, table, reference, sample=sample, severity=severity)


def validate_value(
    table: Any,
    validator: Any,
    reference: Any = None,
    sample: int | None = None,
    severity: Mapping[str, str] | None = None,
) -> ValidationReport:
    """Return the report of a stored value, for a validator of a user, which takes it as its step returned it."""
    from airflow_zen.validation.run import run_validator

    return run_validator(validator, table, reference, sample=sample, severity=severity)
