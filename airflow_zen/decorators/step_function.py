"""The type of a decorated function for type checkers. No process imports this file."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Iterator
from typing import Any, Generic, ParamSpec, Protocol, Self, TypeVar, overload

from airflow.sdk import Metadata, XComArg

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")


class _Mapped(Generic[R_co]):
    """`expand` and `expand_kwargs`: the results of a mapped step are a list of results, or a tuple of such lists."""

    @overload
    def __call__(self: _Mapped[Coroutine[Any, Any, T]], *args: Any, **kwargs: Any) -> list[T]: ...

    @overload
    def __call__(self: _Mapped[Generator[Metadata, Any, T]], *args: Any, **kwargs: Any) -> list[T]: ...

    @overload
    def __call__(self: _Mapped[Iterator[T]], *args: Any, **kwargs: Any) -> list[T]: ...

    @overload
    def __call__(self: _Mapped[None], *args: Any, **kwargs: Any) -> XComArg: ...

    @overload
    def __call__(self: _Mapped[tuple[A, B]], *args: Any, **kwargs: Any) -> tuple[list[A], list[B]]: ...

    @overload
    def __call__(self: _Mapped[tuple[A, B, C]], *args: Any, **kwargs: Any) -> tuple[list[A], list[B], list[C]]: ...

    @overload
    def __call__(
        self: _Mapped[tuple[A, B, C, D]], *args: Any, **kwargs: Any
    ) -> tuple[list[A], list[B], list[C], list[D]]: ...

    @overload
    def __call__(self, *args: Any, **kwargs: Any) -> list[R_co]: ...

    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...


class StepFunction(Protocol, Generic[P, R_co]):
    """A decorated function: its call takes the function's arguments, and returns what a step receives for its result.

    That is the awaited value of an `async def`, the table of an `Iterator` of batches, and the returned value of a
    function that yields `Metadata`.
    """

    __name__: str

    @property
    def function(self) -> Callable[P, R_co]:
        """The function itself."""

    @property
    def __wrapped__(self) -> Callable[P, R_co]: ...

    @overload
    def __call__(self: StepFunction[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T: ...

    @overload
    def __call__(self: StepFunction[P, Generator[Metadata, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T: ...

    @overload
    def __call__(self: StepFunction[P, Iterator[T]], *args: P.args, **kwargs: P.kwargs) -> T: ...

    @overload
    def __call__(self: StepFunction[P, None], *args: P.args, **kwargs: P.kwargs) -> XComArg: ...

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...

    def override(self, **options: Any) -> Self:
        """Copy the step with other options."""

    def partial(self, **arguments: Any) -> StepFunction[..., R_co]:
        """Fix arguments of a step that is mapped over others."""

    @property
    def expand(self) -> _Mapped[R_co]:
        """Map the step over lists; see Airflow's dynamic task mapping."""

    @property
    def expand_kwargs(self) -> _Mapped[R_co]:
        """Map the step over a list of keyword arguments; see Airflow's dynamic task mapping."""
