"""Promises of how validators get tables: what a DAG file imports, bounded memory, and validators by name."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from airflow_zen.errors import ValidationDefinitionError
from airflow_zen.validation import validators
from airflow_zen.validation.checks import InRange, NotNull, TableCheck
from airflow_zen.validation.report import Check
from airflow_zen.validation.table_scan import Batch, Scan
from airflow_zen.validation.validators import run_validator
from tests.validation.environments import write_distribution

_HEAVY = ("numpy", "pandas", "pyarrow", "polars", "mlflow")


def test_dag_file_with_checks_imports_no_data_library() -> None:
    """A DAG file that names checks, and makes steps of them, imports neither Arrow nor pandas."""
    names = "Artifact, NotNull, Unique, ValidationReport, ValidateOperator, validate"
    code = f"import sys; from airflow_zen import {names}; print([name for name in {_HEAVY!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "[]"


PEAKS: list[int] = []


class AllocationScan(Scan):
    def update(self, batch: Batch) -> None:
        PEAKS.append(pa.total_allocated_bytes())

    def finish(self, rows: int) -> Iterable[Check]:
        return [self.check.outcome(True, observed=f"{rows} rows")]


@dataclass(frozen=True)
class Allocation(TableCheck):
    name: ClassVar[str] = "allocation"

    def begin(self, schema: Any, reference: Any = None) -> Scan:
        return AllocationScan(self, schema, reference)


def test_table_larger_than_memory_is_read_batch_by_batch(tmp_path: Path) -> None:
    """Checks of a stored table hold some of its batches at a time, however many rows it has."""
    path, rows, width = tmp_path / "table.parquet", 3_000_000, 6
    numbers = np.random.default_rng(0).normal(size=rows)
    table = pa.table({f"x{at}": numbers + at for at in range(width)})
    size = table.nbytes
    pq.write_table(table, path, row_group_size=100_000)
    del table
    PEAKS.clear()
    before = pa.total_allocated_bytes()
    suite = [Allocation(), *(InRange(f"x{at}", -10, 20) for at in range(width)), NotNull("x0")]
    report = run_validator(suite, ds.dataset(path))
    assert (report.passed, report.rows) == (True, rows)
    assert len(PEAKS) >= rows / 65_536
    assert max(PEAKS) - before < size / 4


@pytest.fixture
def _no_known_entry_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(tmp_path))
    validators.entry_point_validators.cache_clear()
    yield
    validators.entry_point_validators.cache_clear()


@pytest.mark.usefixtures("_no_known_entry_points")
def test_validator_of_a_distribution_is_found_by_name(tmp_path: Path) -> None:
    """A validator that an installed distribution offers by entry point is used by its name."""
    write_distribution(tmp_path, "company_rules_module:Rules")
    assert run_validator("company", pa.table({"a": [1, 2]})).check("rows").passed


@pytest.mark.usefixtures("_no_known_entry_points")
def test_names_that_are_not_offered_are_refused(tmp_path: Path) -> None:
    """An unknown name is an error that lists the known ones; a broken entry point names itself until it is fixed or uninstalled."""
    write_distribution(tmp_path, "company_rules_module:Missing")
    with pytest.raises(ValidationDefinitionError, match="registered are 'company'"):
        run_validator("compny", pa.table({"a": [1]}))
    with pytest.raises(ValidationDefinitionError, match=r"company_rules_module:Missing.*Fix or uninstall it\."):
        run_validator("company", pa.table({"a": [1]}))
    shutil.rmtree(tmp_path / "company_rules-1.0.dist-info")
    validators.entry_point_validators.cache_clear()
    with pytest.raises(
        ValidationDefinitionError, match=r"registered are none\. Install the distribution that offers it"
    ):
        run_validator("company", pa.table({"a": [1]}))
    write_distribution(tmp_path, "company_rules_module:Rules")
    validators.entry_point_validators.cache_clear()
    assert run_validator("company", pa.table({"a": [1, 2]})).passed
