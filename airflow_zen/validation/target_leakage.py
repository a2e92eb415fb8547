"""The association of each column with a target, in one pass: a hint that a column is computed from the target."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from airflow_zen.validation.report import Check
from airflow_zen.validation.row_hashes import hash_rows
from airflow_zen.validation.table_scan import Batch, Scan, is_missing, value_text
from airflow_zen.validation.tables import data_columns, type_kind

MAX_CATEGORIES, MAX_CLASSES = 1000, 20

Floats = np.ndarray[Any, np.dtype[np.float64]]


class LeakageScan(Scan):
    """Associate every other column with the target, or with each class of a target of text."""

    def begin(self) -> None:
        """Choose the columns: numbers, booleans and text."""
        target = self.schema.field(self.check.column)
        self.is_number = type_kind(target) in ("number", "boolean")
        if type_kind(target) not in ("number", "boolean", "text"):
            raise TypeError("The target is a column of numbers, booleans or text.")
        kinds = {name: type_kind(self.schema.field(name)) for name in data_columns(self.schema)}
        self.features = [
            name for name, kind in kinds.items() if name != target.name and kind in ("number", "boolean", "text")
        ]
        self.columns = [target.name, *self.features]
        self.classes: list[str] = []
        self.found: dict[tuple[str, str], _Association] = {}

    def update(self, batch: Batch) -> None:
        """Add the sums of a batch."""
        targets = self._targets(batch.column(self.check.column))
        for name in self.features:
            column = batch.column(name)
            is_text = type_kind(self.schema.field(name)) == "text"
            values = hash_rows([column]) if is_text else _floats(column)
            present = ~np.asarray(is_missing(column))
            for label, target in targets.items():
                association = self.found.setdefault((name, label), _Association(not is_text))
                kept = present & ~np.isnan(target)
                association.add(values[kept], target[kept])

    def _targets(self, column: pa.Array) -> Mapping[str, Floats]:
        """Return the target as numbers; of a target of text an indicator of each class, by class."""
        if self.is_number:
            return {"": _floats(column)}
        seen = pc.unique(column.drop_null())[: MAX_CLASSES + len(self.classes)]
        new = [text for text in map(value_text, seen) if text not in self.classes]
        self.classes = [*self.classes, *new][:MAX_CLASSES]
        missing = np.asarray(is_missing(column))
        found = {}
        for name in self.classes:
            is_class = np.asarray(pc.fill_null(pc.equal(column, pa.scalar(name, column.type)), False))
            found[name] = np.where(missing, np.nan, is_class.astype(np.float64))
        return found

    def finish(self, rows: int) -> Iterable[Check]:
        """Return a failed outcome for each column with a strong association, or one that passed with the strongest."""
        strongest: dict[str, tuple[float, str, str]] = {}
        for (name, label), association in self.found.items():
            value, method = association.result()
            strongest[name] = max(strongest.get(name, (0.0, "", "")), (value, method, label))
        threshold = self.check.threshold
        leaking = {name: found for name, found in strongest.items() if found[0] >= threshold}
        if not leaking:
            name, (value, method, _) = max(strongest.items(), key=lambda item: item[1], default=("", (0.0, "", "")))
            observed = f"at most {value:.3f}, of {name}" if name else "no other column"
            return [self.check.outcome(True, observed=observed, method=method, value=value, threshold=threshold)]
        return [
            self.check.outcome(
                False,
                column=name,
                observed=f"{value:.4f} with {self.check.column}{f' = {label}' if label else ''}",
                method=method,
                value=value,
                threshold=threshold,
            )
            for name, (value, method, label) in leaking.items()
        ]


class _Association:
    """Sums that give the correlation of a column of numbers, and the correlation ratio of few categories."""

    def __init__(self, is_number: bool) -> None:
        self._is_number = is_number
        # n, Σx, Σy, Σx², Σy², Σxy, about the first values, which keeps them exact where the mean is large.
        self._sums = np.zeros(6)
        self._origin: tuple[float, float] | None = None
        self._groups: dict[Any, tuple[float, float]] | None = {}

    def add(self, values: Any, target: Floats) -> None:
        """Add rows in which neither is missing."""
        if not len(target):
            return
        if self._origin is None:
            self._origin = (float(values[0]) if self._is_number else 0.0, float(target[0]))
        y = target - self._origin[1]
        x = values - self._origin[0] if self._is_number else np.zeros(len(y))
        self._sums += [len(y), x.sum(), y.sum(), (x * x).sum(), (y * y).sum(), (x * y).sum()]
        if self._groups is not None:
            self._add_groups(values, y)

    def _add_groups(self, values: Any, y: Floats) -> None:
        distinct, codes = np.unique(values, return_inverse=True)
        if self._groups is None or len(distinct) > MAX_CATEGORIES:
            self._groups = None
            return
        counts, sums = np.bincount(codes), np.bincount(codes, y)
        for value, count, total in zip(distinct.tolist(), counts.tolist(), sums.tolist(), strict=True):
            known = self._groups.get(value, (0.0, 0.0))
            self._groups[value] = (known[0] + count, known[1] + total)
        if len(self._groups) > MAX_CATEGORIES:
            self._groups = None

    def result(self) -> tuple[float, str]:
        """Return the stronger association, from 0 to 1, and its name."""
        n, sx, sy, sxx, syy, sxy = self._sums
        total = syy - sy * sy / n if n else 0.0
        if n < 3 or total <= 1e-12 * max(syy, 1e-300):
            return 0.0, ""
        spread = sxx - sx * sx / n
        correlation = abs(sxy - sx * sy / n) / np.sqrt(spread * total) if spread > 1e-12 * max(sxx, 1e-300) else 0.0
        found = [(min(1.0, float(correlation)), "correlation (Pearson)")]
        # A ratio of nearly as many categories as rows says nothing.
        if self._groups and 1 < len(self._groups) <= n / 10:
            between = sum(s * s / c for c, s in self._groups.values()) - sy * sy / n
            found.append((float(np.sqrt(min(1.0, max(0.0, between / total)))), "correlation ratio (eta)"))
        return max(found)


def _floats(column: pa.Array) -> Floats:
    """Return numbers or booleans as floats; NaN where one is missing."""
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    return np.asarray(pc.fill_null(column.cast(pa.float64(), safe=False), np.nan), np.float64)
