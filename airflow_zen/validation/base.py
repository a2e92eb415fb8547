"""The protocol of validators, and what each of them gets from `validation.validators.run_validator`.

A validator checks one table, perhaps against a reference, and returns a `ValidationReport`. It is a function
`check(table, reference)`, an object with that method, or a subclass of `Validator`. A file of a library defines one
frozen dataclass that derives from `Validator`:

    @dataclass(frozen=True)
    class Pandera(Validator):
        schema: Any
        library: ClassVar[str] = "pandera"
        form: ClassVar[Form] = "pandas"

        def check(self, table, reference=None):
            import pandera.pandas as pa
            ...
            return ValidationReport(self.title, checks, metrics={"drift.share": 0.2}, files={"page.html": b"…"})

Its rules:
- The library is imported inside functions: a DAG file that names the validator is parsed without it.
- Its fields are the suite, and part of the cache key: plain values, records, functions and classes, whose code is in
  the key too. A path of a suite's file is read when the object is made, so that the content is in the key. `repr` is
  the same in every process; Airflow stores it with the DAG.
- `form` is what `check` receives: `pandas`, `polars` or `arrow` (a table in memory, of at most `sample` rows where the
  user asks for a sample), `batches` (`validation.tables.Batches`, read batch by batch in bounded memory, never
  sampled), or `stored` (the value as its step returned it; for functions of users).
- `columns()` names the columns that the suite uses, None if it names none and uses all.
- It returns checks and does not raise; `run_validator` turns an exception into a failed check.
- It does not check for empty tables, missing columns and references of another schema: `run_validator` does.
- Failing rows are counted by the library and 20 sampled: `Check(failing=…, sample=[FailingRow(label, value)])`.
- A statistical verdict names its `method`, `value` and `threshold`.
- Names of checks are those of the library, without the column: `Check(name="in_range", column="dep_delay")`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from airflow_zen.materializers.base import installed_version
from airflow_zen.type_names import display_name
from airflow_zen.validation.report import Check, ValidationReport

Form = Literal["stored", "pandas", "polars", "arrow", "batches"]


@dataclass(frozen=True)
class Validator:
    """The base of validators; the module's docstring says what one does.

    `library` is the distribution that the report names, `form` what `check` receives. `runtime` is the text of the
    runtime it needs where its library cannot be installed beside Airflow, such as `Virtualenv(…)`. `compares` says
    whether it uses a reference; checks of an artifact get its previous version. `needs_reference` refuses `validate`
    without one. `is_reproducible` is False where the outcome depends on more than the tables, so that it is not cached.
    """

    library: ClassVar[str] = ""
    form: ClassVar[Form] = "stored"
    runtime: ClassVar[str] = ""
    compares: ClassVar[bool] = False
    needs_reference: ClassVar[bool] = False
    is_reproducible: ClassVar[bool] = True

    @property
    def title(self) -> str:
        """The name that reports show: the library with its version, else the class."""
        name = self.library or type(self).__name__
        return f"{name} {installed_version(self.library)}".strip() if self.library else name

    def columns(self) -> Iterable[str] | None:
        """Return the columns that the suite names; None if it names none, and uses all."""
        return None

    def compared_columns(self) -> Iterable[str] | None:
        """Return those of `columns` that a reference must have; None for all."""
        return None

    def check(self, table: Any, reference: Any = None) -> ValidationReport:
        """Check a table, in the form that the class declares; `reference` has the same form, or is None."""
        raise NotImplementedError(f"{type(self).__qualname__} has no method check.")


@dataclass(frozen=True)
class FunctionValidator(Validator):
    """A function, or an object with a method `check`, of a user: called with the table as it was stored.

    With two parameters it gets the reference too, which is None where there is none.
    """

    function: Any

    @property
    def compares(self) -> bool:  # type: ignore[override]
        """Whether the function has a second parameter."""
        call = getattr(self.function, "check", self.function)
        return len(inspect.signature(call).parameters) > 1

    @property
    def title(self) -> str:
        """The name of the function, or of the object's class."""
        return str(getattr(self.function, "__name__", type(self.function).__name__))

    def check(self, table: Any, reference: Any = None) -> ValidationReport:
        """Call the function; raise `TypeError` for a result that is not a report."""
        call = getattr(self.function, "check", self.function)
        found = call(table, reference) if self.compares else call(table)
        if not isinstance(found, ValidationReport):
            raise TypeError(
                f"{self.title} returned {display_name(type(found))}. Return an airflow_zen.ValidationReport."
            )
        return found


def not_empty(rows: int) -> Check:
    """Return the check that every table gets: an empty one fails."""
    return Check(name="not_empty", passed=rows > 0, observed=f"{rows} rows", expected="at least 1 row")
