"""The errors of airflow_zen; each is a `ZenError` and the built-in error that a caller would catch."""

from __future__ import annotations


class ZenError(Exception):
    """Base of every error raised by airflow_zen."""


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


class MaterializerNotFound(ZenError, TypeError):
    """No materializer saves a type, or loads an encoding."""


class MaterializerDefinitionError(ZenError, TypeError):
    """The declaration of a materializer is invalid."""


class SaveRefused(ZenError, TypeError):
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


class MetadataError(ZenError, ValueError):
    """Metadata cannot be attached."""


class StepInterrupted(BaseException):
    """The task received SIGTERM; a `BaseException`, so that user code does not catch it."""
