"""Batches of mapped steps: many elements in one task, each with its own record, cache entry and lineage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from math import ceil
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException
from airflow.sdk import BaseOperator, XComArg
from airflow.sdk.definitions.xcom_arg import PlainXComArg

from airflow_zen.errors import BatchFailed, StepDefinitionError
from airflow_zen.operators.ml_step import MLStepOperator, StepOutputs
from airflow_zen.operators.substeps import Substep, SubstepInstance, substep_context

if TYPE_CHECKING:
    from airflow.sdk.types import Operator

_ELEMENTS = "elements"
_MAX_NAMED = 5


class BatchOperator(MLStepOperator):
    """Run a step for each element of a batch, in one process.

    `elements` is all that the step is mapped over: lists by argument, whose combinations are the elements in Airflow's
    order, or a list of keyword arguments. Batch `number` has the next `size` elements after those of earlier numbers. The
    result in XCom is the list of the elements' results. `strict`: whether an element may not set what `partial` has set.
    """

    template_fields: Sequence[str] = (*MLStepOperator.template_fields, _ELEMENTS)

    def __init__(self, *, elements: Any, size: int, number: int = 0, strict: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.elements = elements
        self.size = size
        self.number = number
        self.strict = strict
        # The result is a list, also of a step with several outputs.
        self.multiple_outputs = False

    def execute(self, context: Any) -> Any:
        """Run the step for all elements; raise the errors of those that failed after the others have run."""
        from airflow_zen.operators.execute import execute_in_stack, open_task_stack

        settings, stack = open_task_stack(self, context)
        done, failed = _Done(), dict[int, Exception]()
        for index, part, element, own in self.parts(context):
            try:
                result, run = execute_in_stack(element, own, settings, stack, part)
                done.add(result, element, is_hit=run.is_hit)
            except AirflowSkipException:
                self.log.info("Element %d is skipped.", index)
            except Exception as error:
                self.log.exception("Element %d of %r has failed.", index, self.task_id)
                failed[index] = error
        self._set_label(context, done)
        self.outlets = done.outlets
        if failed:
            raise _batch_error(self.task_id, failed, len(done.results))
        if not done.results:
            raise AirflowSkipException(f"All elements of batch {self.number} are skipped.")
        return done.results

    def parts(self, context: Any) -> Iterator[tuple[int, Substep, BatchOperator, Any]]:
        """Yield the elements of this batch: index among all elements, arguments, operator and context."""
        begin = self.number * self.size
        for index in range(begin, min(begin + self.size, count_elements(self.elements))):
            part = _element(self.elements, index)
            element = self._element_operator(index, part)
            yield (
                index,
                part,
                element,
                substep_context(context, element, SubstepInstance(context["ti"], self.task_id, index)),
            )

    def _element_operator(self, index: int, part: Substep) -> BatchOperator:
        if self.strict and (twice := sorted(self.op_kwargs.keys() & part.mapped.keys())):
            raise StepDefinitionError(
                f"Element {index} of {self.task_id!r} sets {', '.join(twice)}, which partial() has set too. Leave it out there, "
                "or write expand_kwargs(…, strict=False), with which the element's value takes precedence."
            )
        found = copy(self)
        found.op_kwargs = {**self.op_kwargs, **part.mapped}
        found.outlets, found.links, found.do_xcom_push = list(self.outlets), {}, False
        return found

    def _set_label(self, context: Any, done: _Done) -> None:
        from airflow_zen.operators.execute import set_label

        begin, reused = self.number * self.size, f" ({done.reused} cached)" if done.reused else ""
        last = min(begin + self.size, count_elements(self.elements)) - 1
        if context.get("map_index_template") is None:
            set_label(self, context, f"{begin}–{last}{reused}")


class _Done:
    """What the elements of a batch have left: results, assets with new content, and how many were reused."""

    def __init__(self) -> None:
        self.results: list[Any] = []
        self.outlets: list[Any] = []
        self.reused = 0

    def add(self, result: Any, operator: BatchOperator, *, is_hit: bool) -> None:
        """Add one element."""
        if result is not None:
            self.results.append(result)
        self.outlets += [outlet for outlet in operator.outlets if outlet not in self.outlets]
        self.reused += is_hit


class BatchesOperator(BaseOperator):
    """Return the numbers of the batches of `elements` that are known only when the DAG runs."""

    template_fields: Sequence[str] = (_ELEMENTS,)

    def __init__(self, *, elements: Any, size: int, **options: Any) -> None:
        super().__init__(**options)
        self.elements = elements
        self.size = size

    def execute(self, context: Any) -> list[int]:
        """Return the numbers."""
        return _numbers(self.elements, self.size)


class BatchOutput(PlainXComArg):
    """All results of a batched step as one list, or those of one of its outputs.

    It has no key of XCom: Airflow, which would map over the batches, then refuses to map over it.
    """

    def __init__(self, operator: Operator, output: str = "") -> None:
        super().__init__(operator, f"{_ELEMENTS} {output}".strip())
        self.output = output

    def resolve(self, context: Any) -> Any:
        """Return the results of all elements, in their order."""
        batches = XComArg(self.operator).resolve(context)
        results = [result for batch in batches[:] for result in batch]
        return [result[self.output] for result in results] if self.output else results

    def refuse_mapping(self, step: str, name: str) -> None:
        """Raise `StepDefinitionError` for a step that is mapped over it."""
        raise _mapping_error(step, name, self.operator.task_id)


class BatchOutputs(StepOutputs):
    """The outputs of a batched step with several of them, by name or position."""

    def __getitem__(self, item: str | int) -> XComArg:
        name = self.names[item] if isinstance(item, int) else item
        super().__getitem__(name)
        return BatchOutput(self.operator, name)

    def refuse_mapping(self, step: str, name: str) -> None:
        """Raise `StepDefinitionError` for a step that is mapped over it."""
        raise _mapping_error(step, name, self.operator.task_id)


def expand_in_batches(elements: Any, size: Any, task_id: str, options: Mapping[str, Any]) -> Any:
    """Return the mapped task that runs `size` elements in each of its instances.

    `options` are those of `BatchOperator`. Elements that are known only when the DAG runs are counted by a task
    `<task_id>__batches` before it. Raises `StepDefinitionError` for a size below 1.
    """
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise StepDefinitionError(
            f"Step {task_id!r}: batch is the number of elements in a task, at least 1, got {size!r}."
        )
    numbers: Any
    if next(XComArg.iter_xcom_references(elements), None) is None:
        numbers = _numbers(elements, size)
    else:
        numbers = BatchesOperator(task_id=f"{task_id}__batches", elements=elements, size=size).output
    return BatchOperator.partial(task_id=task_id, elements=elements, size=size, **options).expand(number=numbers)


def _mapping_error(step: str, name: str, batched: str) -> StepDefinitionError:
    return StepDefinitionError(
        f"Step {step!r} cannot be expanded over {name}={batched!r}, which runs in batches: Airflow knows the number of batches "
        "only. Leave batch out there, or let a step of its own return the list: '-> Annotated[list[T], Each]'."
    )


def count_elements(elements: Any) -> int:
    """Return the number of elements: of the combinations of lists by argument, or of a list."""
    if not isinstance(elements, Mapping):
        return len(elements)
    count = 1
    for values in elements.values():
        count *= len(values)
    return count


def _numbers(elements: Any, size: int) -> list[int]:
    return list(range(ceil(count_elements(elements) / size)))


def _element(elements: Any, index: int) -> Substep:
    from airflow_zen.artifacts.ref import ArtifactRef
    from airflow_zen.operators.artifact import load_keyword_arguments

    if isinstance(elements, Mapping):
        return Substep(_combination(elements, index))
    given = elements[index]
    inputs = {"kwargs": ArtifactRef.from_wire(given)} if ArtifactRef.is_wire(given) else {}
    return Substep(load_keyword_arguments(given), inputs)


def _combination(elements: Mapping[str, Any], index: int) -> dict[str, Any]:
    """Return one combination of lists by argument; the last list changes fastest."""
    found = {}
    for name, values in reversed([*elements.items()]):
        index, at = divmod(index, len(values))
        found[name] = list(values.items())[at] if isinstance(values, Mapping) else values[at]
    return found


def _batch_error(task_id: str, failed: Mapping[int, Exception], finished: int) -> Exception:
    """Return the error of a batch; one that Airflow does not retry if no element would succeed then."""
    named = [f"[{index}] {type(error).__name__}: {error}" for index, error in failed.items()]
    more = f"; and {len(named) - _MAX_NAMED} more" if len(named) > _MAX_NAMED else ""
    text = (
        f"{len(failed)} of {len(failed) + finished} elements of {task_id!r} failed: {'; '.join(named[:_MAX_NAMED])}{more}. "
        "A retry runs only these."
    )
    is_final = all(isinstance(error, AirflowFailException) for error in failed.values())
    error = AirflowFailException(text) if is_final else BatchFailed(text)
    error.__cause__ = next(iter(failed.values()))
    return error
