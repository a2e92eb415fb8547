"""The checks of a stream, made while its batches are read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from msgspec.structs import replace

from airflow_zen.errors import InputError
from airflow_zen.validation import validators
from airflow_zen.validation.base import Validator, not_empty
from airflow_zen.validation.checks import Suite
from airflow_zen.validation.report import Check, ValidationReport
from airflow_zen.validation.table_scan import TableScan
from airflow_zen.validation.tables import BATCH_ROWS, TableBatches, to_arrow, to_batches, to_frame


class StreamCheck:
    """Check the batches of a stream while they pass, in bounded memory.

    Built-in checks take each batch. For other validators the batches are also written to `file`, which they read like
    any stored table: batch by batch, or as a random sample.
    """

    def __init__(self, members: Iterable[Any], file: Path, reference: Any = None) -> None:
        members = validators.as_validators(list(members))
        self._suite = next((each for each in members if isinstance(each, Suite)), Suite(()))
        self._others = [each for each in members if not isinstance(each, Suite)]
        self._file = file
        self._reference = reference
        self._scan: TableScan | None = None
        self._writer: pa.RecordBatchStreamWriter | None = None
        self._library = ""
        self._error = ""

    def watch(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Iterate over the batches, and check each."""
        for batch in batches:
            if not self._error:
                try:
                    self._update(batch)
                except (InputError, pa.ArrowException, ValueError) as error:
                    self._error = str(error) if isinstance(error, InputError) else f"No common schema: {error}"
            yield batch

    def report(self) -> ValidationReport:
        """Return the report, after the last batch."""
        if self._writer:
            self._writer.close()
        if self._error:
            return ValidationReport(self._suite.title, (Check(name="is_table", passed=False, message=self._error),))
        rows = self._scan.rows if self._scan else 0
        facts = [not_empty(rows)]
        if self._scan:
            reference = None if self._reference is None else to_batches(self._reference)
            facts += validators.column_checks(self._suite, self._scan.schema, reference.schema if reference else None)
        found = self._scan.finish(rows) if self._scan and rows else []
        suite = ValidationReport(self._suite.title, (*facts, *found), rows)
        others = [self._run(each) for each in self._others if rows]
        return validators.merge_reports([suite, *others] if self._suite.checks or not others else others)

    def _update(self, value: Any) -> None:
        table = to_arrow(value)
        if self._scan is None:
            self._library = type(value).__module__.partition(".")[0]
            reference = None if self._reference is None else to_batches(self._reference)
            self._scan = TableScan(self._suite.checks, table.schema, reference)
        for batch in table.to_batches(BATCH_ROWS):
            self._scan.update(batch)
        if self._others:
            self._writer = self._writer or pa.ipc.new_stream(self._file, table.schema)
            schema = self._scan.schema
            self._writer.write_table(table if table.schema.equals(schema) else table.cast(schema))

    def _run(self, validator: Validator) -> ValidationReport:
        # The pages of a mapped file are read when they are used, and are no memory of this process.
        with pa.memory_map(str(self._file)) as source, pa.ipc.open_stream(source) as reader:
            table = reader.read_all()
        if validator.form != "stored":
            return validators.run_one(validator, table, self._reference, validators.DEFAULT_SAMPLE)
        is_sampled = table.num_rows > validators.DEFAULT_SAMPLE
        if is_sampled:
            table = TableBatches(table).take(validators.sampled_rows(table.num_rows, validators.DEFAULT_SAMPLE))
        sampled = validators.DEFAULT_SAMPLE if is_sampled else None
        report = validators.run_one(validator, self._to_library(table), self._reference, 0)
        return replace(report, rows=self._scan.rows if self._scan else 0, sampled=sampled)

    def _to_library(self, table: pa.Table) -> Any:
        """Return a table as one of the library that the stream is of."""
        if self._library == "pandas":
            return to_frame(table)
        if self._library == "polars":
            import polars as pl

            return pl.from_arrow(table)
        return table
