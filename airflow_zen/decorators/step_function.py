"""The type of a decorated function for type checkers. No process imports this file."""

# The overloads go from special results to all others.
# mypy: disable-error-code="overload-overlap"

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Iterator, Mapping, Sequence
from typing import Any, Generic, ParamSpec, Protocol, Self, TypeVar, overload

from airflow.sdk import Metadata, XComArg

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")


Lists = Sequence[Any] | Mapping[Any, Any] | XComArg
KeywordArguments = Sequence[Mapping[str, Any] | XComArg] | XComArg


class _Mapped(Generic[R_co]):
    """`expand` and `expand_kwargs`: the results of a mapped step are a list of results, or a tuple of such lists.

    Names and types of the arguments are not known: a `ParamSpec` cannot be changed into one of lists, nor a part of its
    parameters be taken.
    """

    @overload
    def __call__(
        self: _Mapped[Coroutine[Any, Any, T]],
        kwargs: KeywordArguments = ...,
        /,
        batch: int = ...,
        strict: bool = ...,
        **lists: Lists,
    ) -> list[T]: ...

    @overload
    def __call__(
        self: _Mapped[Generator[Metadata, Any, T]],
        kwargs: KeywordArguments = ...,
        /,
        batch: int = ...,
        strict: bool = ...,
        **lists: Lists,
    ) -> list[T]: ...

    @overload
    def __call__(
        self: _Mapped[Iterator[T]],
        kwargs: KeywordArguments = ...,
        /,
        batch: int = ...,
        strict: bool = ...,
        **lists: Lists,
    ) -> list[T]: ...

    @overload
    def __call__(
        self: _Mapped[None], kwargs: KeywordArguments = ..., /, batch: int = ..., strict: bool = ..., **lists: Lists
    ) -> XComArg: ...

    @overload
    def __call__(
        self: _Mapped[tuple[A, B]],
        kwargs: KeywordArguments = ...,
        /,
        batch: int = ...,
        strict: bool = ...,
        **lists: Lists,
    ) -> tuple[list[A], list[B]]: ...

    @overload
    def __call__(
        self: _Mapped[tuple[A, B, C]],
        kwargs: KeywordArguments = ...,
        /,
        batch: int = ...,
        strict: bool = ...,
        **lists: Lists,
    ) -> tuple[list[A], list[B], list[C]]: ...

    @overload
    def __call__(
        self: _Mapped[tuple[A, B, C, D]],
        kwargs: KeywordArguments = ...,
        /,
        batch: int = ...,
        strict: bool = ...,
        **lists: Lists,
    ) -> tuple[list[A], list[B], list[C], list[D]]: ...

    @overload
    def __call__(
        self, kwargs: KeywordArguments = ..., /, batch: int = ..., strict: bool = ..., **lists: Lists
    ) -> list[R_co]: ...

    def __call__(self, kwargs: Any = (), /, batch: int = 1, strict: bool = True, **lists: Any) -> Any: ...


class PartialStep(Protocol[R_co]):
    """A step some of whose arguments are fixed; it can be mapped over the others, and not be called."""

    @property
    def expand(self) -> _Mapped[R_co]:
        """Map the step over lists; see Airflow's dynamic task mapping."""

    @property
    def expand_kwargs(self) -> _Mapped[R_co]:
        """Map the step over a list of keyword arguments; see Airflow's dynamic task mapping."""

    def partial(self, **arguments: Any) -> PartialStep[R_co]:
        """Fix arguments of a step that is mapped over others."""

    def override(self, **options: Any) -> Self:
        """Copy the step with other options."""


class StepFunction(PartialStep[R_co], Protocol[P, R_co]):
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
