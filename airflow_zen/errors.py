"""The one error family of airflow_zen: every failure of ours is a `ZenError`."""

from __future__ import annotations


class ZenError(Exception):
    """Base of every error raised by airflow_zen."""


class SettingsError(ZenError, ValueError):
    """A deployment's setting or connection cannot be used as it is."""


class StepDefinitionError(ZenError, TypeError):
    """A step is declared in a way that cannot work."""


class TypeMismatch(ZenError, TypeError):
    """A value is of another type than the declared one."""


class OutputError(TypeMismatch):
    """A step returned something other than what it declares."""


class InputError(TypeMismatch):
    """An artifact holds something other than the type that it is asked for as."""


class MaterializerNotFound(ZenError, TypeError):
    """No materializer saves this type, or reads this encoding."""


class MaterializerDefinitionError(ZenError, TypeError):
    """A materializer is declared in a way that cannot work."""


class SaveRefused(ZenError, TypeError):
    """A value cannot be stored exactly, and is therefore not stored at all."""


class ArtifactNotFound(ZenError, LookupError):
    """The artifact is not, or no longer, in the artifact store."""


class ArtifactNameError(ZenError, ValueError):
    """A name or a tag cannot be one."""


class ArtifactCorrupt(ZenError, ValueError):
    """Stored bytes differ from the digest that names them."""


class ArtifactRefused(ZenError, ValueError):
    """A ref is malformed, or points outside the artifact root."""


class StoreDenied(ZenError, PermissionError):
    """The artifact root's store refuses the credentials, has no such bucket, or has it in another region."""


class StoreUnavailable(ZenError, ConnectionError):
    """The artifact root's store does not answer, or answers that it cannot now."""


class AlreadyExists(ZenError, FileExistsError):
    """A write that must create found the key taken."""


class PruneBusy(ZenError, RuntimeError):
    """Another prune of the artifact root is running."""


class FingerprintError(ZenError, TypeError):
    """A value or a piece of code cannot be fingerprinted soundly."""


class LineageError(ZenError, ConnectionError):
    """The lineage server could not be reached, or refused."""


class LineageNotFound(ZenError, LookupError):
    """MLflow knows no answer to a question about lineage."""


class MetadataError(ZenError, ValueError):
    """Facts cannot be attached as asked."""


class StepInterrupted(BaseException):
    """SIGTERM reached the task; a `BaseException`, so that user code does not swallow it."""
