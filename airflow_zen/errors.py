"""The errors of airflow_zen; each is a `ZenError` and the built-in error that a caller would catch."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from types import MappingProxyType

log = logging.getLogger("airflow_zen.steps")

_MAX_PLACE_LENGTH = 200
_MAX_MESSAGE_LENGTH = 4000

# What reading a document raises that is damaged, or was made to do harm.
UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError)


class ZenError(Exception):
    """Base of every error raised by airflow_zen.

    A message of more than 4000 characters is cut in its middle: it may quote a ref or file of any size.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*(_cut(arg) if isinstance(arg, str) else arg for arg in args))


def _cut(text: str) -> str:
    half = _MAX_MESSAGE_LENGTH // 2
    return text if len(text) <= _MAX_MESSAGE_LENGTH else f"{text[:half]} … {text[-half:]}"


class LocatedError(ZenError):
    """An error about one value, which may be inside another one.

    `place` is the path to it, such as `['model'].encoder, attrs['note']`; "" for the value itself.
    """

    place = ""

    def __str__(self) -> str:
        """Return the message, after the place."""
        shown = self.place if len(self.place) <= _MAX_PLACE_LENGTH else f"{self.place[:_MAX_PLACE_LENGTH]}…"
        return f"In {shown}: {super().__str__()}" if shown else super().__str__()

    def nest(self, name: str) -> None:
        """Prepend the name, in the value around it, of what the place starts from."""
        separator = ", " if name and self.place[:1] not in ("", ".", "[") else ""
        self.place = f"{name}{separator}{self.place}"


class located(AbstractContextManager[None]):  # noqa: N801
    """Prepend a name, such as `column 'a'`, to the place of an error in the block, or put it in place of its start."""

    def __init__(self, name: str, instead_of: str = "") -> None:
        self._name, self._instead_of = name, instead_of

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, LocatedError) and error.place.startswith(self._instead_of):
            error.place = error.place.removeprefix(self._instead_of)
            error.nest(self._name)


@contextmanager
def log_errors(consequence: str) -> Iterator[None]:
    """Log a warning for an error in the block: what follows a committed result never fails the step."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - the cache and the lineage say success by then
        log.warning("%s: %s: %s", consequence, type(error).__name__, error)


class SettingsError(ZenError, ValueError):
    """A setting or a connection is invalid."""


class StepDefinitionError(ZenError, TypeError):
    """The declaration of a step is invalid."""


class TypeMismatch(ZenError, TypeError):
    """A value is not of its declared type."""


class OutputError(TypeMismatch):
    """A step returned something other than its declared outputs."""


class InputError(TypeMismatch):
    """An artifact cannot be loaded, or an argument converted, as the declared type."""


class MaterializerNotFound(LocatedError, TypeError):
    """No materializer saves a type, or loads an encoding."""


class MaterializerDefinitionError(ZenError, TypeError):
    """The declaration of a materializer is invalid."""


class SaveRefused(LocatedError, TypeError):
    """A value cannot be stored without loss, and is therefore not stored."""


class ArtifactNotFound(ZenError, LookupError):
    """An artifact is not in the artifact store, or was deleted."""


class ArtifactNameError(ZenError, ValueError):
    """The name or a tag of an artifact is invalid."""


class ArtifactCorrupt(ZenError, ValueError):
    """Stored bytes do not have the digest that is recorded for them."""


class ArtifactRefused(ZenError, ValueError):
    """A ref is malformed, or points outside the artifact root."""


class StoreDenied(ZenError, PermissionError):
    """The store of the artifact root refuses the credentials, or has no such bucket in the region."""


class StoreUnavailable(ZenError, ConnectionError):
    """The store of the artifact root does not answer, or answers that it is unavailable."""


class AlreadyExists(ZenError, FileExistsError):
    """A key that was to be created exists already."""


class PruneBusy(ZenError, RuntimeError):
    """Another prune of the artifact root is running."""


class FingerprintError(ZenError, TypeError):
    """A value or a piece of code cannot be fingerprinted reliably."""


class LineageError(ZenError, ConnectionError):
    """The lineage server cannot be reached, or refused a request."""


class LineageNotFound(ZenError, LookupError):
    """MLflow does not have what was requested."""


class ModelNameError(ZenError, ValueError):
    """The name of a registered model, its version or an alias is invalid."""


class PromotionRefused(ZenError, RuntimeError):
    """An alias does not move: it has changed since the comparison, or another promotion is running."""


class SpinError(ZenError, LookupError):
    """A recorded step run cannot be replayed."""


class SweepError(ZenError, ValueError):
    """A sweep cannot go on, or has too few successful trials."""


class MetadataError(ZenError, ValueError):
    """Metadata cannot be attached."""


class CheckpointError(ZenError, ValueError):
    """A checkpoint is requested or numbered in a way that is not possible."""


class RuntimeUnavailable(ZenError, RuntimeError):
    """A step cannot be run in its runtime, or its process there ended without an answer."""


class BatchFailed(ZenError, RuntimeError):
    """Elements of a batch of mapped steps failed."""


class DeploymentFailed(ZenError, RuntimeError):
    """A model is not served: its server did not start, failed its smoke test, or was refused by the target."""


class ValidationDefinitionError(ZenError, TypeError):
    """The declaration of a check, or of what its failure does, is invalid."""


class ValidationFailed(ZenError, ValueError):
    """The checks of an artifact failed, and it is declared that this fails the step.

    `outputs` are the refs of what was stored all the same, the report among them, by output name.
    """

    outputs: Mapping[str, object] = MappingProxyType({})


class StepDeferred(BaseException):
    """A step goes on elsewhere, and this process need not wait; a `BaseException`, because nothing has failed.

    trigger: what says that it has ended.
    """

    def __init__(self, trigger: object) -> None:
        super().__init__(trigger)
        self.trigger = trigger


class TrialPruned(BaseException):
    """A trial of a sweep ends early, and has not failed; a `BaseException`, so that user code does not catch it."""


class StepInterrupted(BaseException):
    """The task received SIGTERM; a `BaseException`, so that user code does not catch it."""
