"""What calling a step with several outputs gives in a DAG: unpackable, and indexed by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from airflow.sdk.definitions.xcom_arg import PlainXComArg, XComArg

from airflow_zen.errors import StepDefinitionError

if TYPE_CHECKING:
    from airflow.sdk.types import Operator


class StepOutputs(PlainXComArg):
    """Refer to all outputs of a step, or to one by its name."""

    def __init__(self, operator: Operator, names: tuple[str, ...]) -> None:
        super().__init__(operator)
        self.names = names

    def __iter__(self) -> Iterator[XComArg]:
        return iter([self[name] for name in self.names])

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, item: str | int) -> XComArg:
        if isinstance(item, int):
            return self[self.names[item]]
        if item not in self.names:
            raise StepDefinitionError(
                f"Step {self.operator.task_id!r} has no output {item!r}; it declares {list(self.names)}."
            )
        return super().__getitem__(item)
