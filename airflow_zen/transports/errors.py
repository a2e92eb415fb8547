"""What the errors of obstore's and fsspec's clients mean, as one family of errors that name the remedy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from airflow_zen.errors import ArtifactNotFound, StoreDenied, StoreUnavailable, ZenError

# Codes of S3, Azure and Google, as obstore, botocore, gcsfs and Azure's clients write them.
_WRONG_REGION = re.compile(
    r"PermanentRedirect|AuthorizationHeaderMalformed|IllegalLocationConstraint|without LOCATION|301 Moved",
    re.IGNORECASE,
)
_NO_SUCH_BUCKET = re.compile(
    r"NoSuchBucket|ContainerNotFound|(bucket|container) does not exist|No such (bucket|container)", re.IGNORECASE
)
_ACCESS_DENIED = re.compile(
    r"40[13] (Forbidden|Unauthorized)|AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken|InvalidToken"
    r"|InvalidClientTokenId|AuthenticationFailed|AuthorizationFailure|AuthorizationPermissionMismatch"
    r"|NoAuthenticationInformation|Anonymous caller|Invalid Credentials|Unable to locate credentials|Forbidden: |invalid_grant",
    re.IGNORECASE,
)
# Our own text, which obstore quotes among others.
_ROLE_ERROR = re.compile(r"Role \S+ cannot be assumed: .*? trusts the caller\.", re.DOTALL)
# Keys are in the same text, so these match only where a client writes the status and code of a response.
_STATUS_PREFIX = r"(?:status code: |<Code>|An error occurred \(|ErrorCode:)"
_STORAGE_FULL = re.compile(
    _STATUS_PREFIX + r"(507|InsufficientStorage|\w*StorageFull|\w*QuotaExceeded|InsufficientCapacity)"
)
_SERVER_ERROR = re.compile(
    _STATUS_PREFIX + r"(5\d\d(?: [A-Z][A-Za-z]*)*|SlowDown|ServiceUnavailable|InternalError|ServerBusy)"
)
_TIMEOUT = re.compile(r"kind: Timeout|(Read|Connect) timeout on endpoint URL|no byte moved")
_ERROR_CODE = re.compile(
    r"<Code>(\w+)</Code>|ErrorCode:(\w+)|\((\w+)\) when calling|expecting '([\w-]+)'|(invalid_grant)"
)


@contextmanager
def translate_errors(root: str, key: str = "") -> Iterator[None]:
    """Raise `StoreDenied`, `StoreUnavailable` or `ArtifactNotFound` for a client's error that means that; pass all others.

    key: of the object that is read. Without one, an error for something missing means that the bucket is missing.
    """
    try:
        yield
    except ZenError:
        raise
    except Exception as error:
        translated = _translate(error, root, key)
        if translated is None:
            raise
        raise translated from error


def _translate(error: Exception, root: str, key: str) -> ZenError | None:
    text = f"{error} {error.__cause__ or ''}"
    found = _ERROR_CODE.search(text)
    code = f" ({next(filter(None, found.groups()))})" if found else ""
    missing = isinstance(error, FileNotFoundError)
    if role := _ROLE_ERROR.search(text):
        return StoreDenied(role[0])
    if _WRONG_REGION.search(text):
        return StoreDenied(
            f"The bucket of {root} is in another region{code}. Set region_name of the connection that [zen] "
            "artifact_conn_id names, or AWS_REGION on the worker where it names none, to the bucket's region."
        )
    if _NO_SUCH_BUCKET.search(text) or (missing and not key):
        return StoreDenied(
            f"The store has no bucket or container as in {root}{code}. Create it, correct [zen] artifact_root, or, "
            "for a store of your own, set its address in the connection that [zen] artifact_conn_id names."
        )
    if missing:
        return ArtifactNotFound(f"Nothing is stored at {root}/{key}.")
    if isinstance(error, PermissionError) or _ACCESS_DENIED.search(text):
        return StoreDenied(
            f"The store refused access to {root}{code}. Check the credentials in the connection that [zen] "
            "artifact_conn_id names, or in the worker's environment where it names none, and that they may read, write, "
            "list and delete under the root."
        )
    return _translate_unavailable(error, text, f"{root}{code}", root)


def _translate_unavailable(error: Exception, text: str, place: str, root: str) -> StoreUnavailable | None:
    if _STORAGE_FULL.search(text):
        return StoreUnavailable(
            f"The store has no space left for {place}. Free some, with `airflow zen artifacts prune` for example, or "
            "add more; then run the task again."
        )
    if status := _SERVER_ERROR.search(text):
        return StoreUnavailable(
            f"The store of {root} answered every attempt with a server error ({status[1]}). Check whether it is "
            "overloaded, full or restarting; then run the task again."
        )
    if isinstance(error, TimeoutError) or _TIMEOUT.search(text):
        return StoreUnavailable(
            f"The store of {root} did not answer in time. Check whether it hangs, its disks are full, or something in between "
            "drops the requests; then run the task again."
        )
    return None
