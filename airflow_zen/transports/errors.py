"""Say what a store's error means and what mends it, whichever client brought it."""

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
# Our own words, which come back from obstore among others.
_ROLE_ERROR = re.compile(r"Role \S+ cannot be assumed: .*? trusts who asks\.", re.DOTALL)
# Names of objects stand in the same text: these are looked for where a client writes status and code of an answer.
_STATUS_PREFIX = r"(?:status code: |<Code>|An error occurred \(|ErrorCode:)"
_STORAGE_FULL = re.compile(
    _STATUS_PREFIX + r"(507|InsufficientStorage|\w*StorageFull|\w*QuotaExceeded|InsufficientCapacity)"
)
_SERVER_ERROR = re.compile(
    _STATUS_PREFIX + r"(5\d\d(?: [A-Z][A-Za-z]*)*|SlowDown|ServiceUnavailable|InternalError|ServerBusy)"
)
_TIMEOUT = re.compile(r"kind: Timeout|(Read|Connect) timeout on endpoint URL|nothing of it moved")
_ERROR_CODE = re.compile(
    r"<Code>(\w+)</Code>|ErrorCode:(\w+)|\((\w+)\) when calling|expecting '([\w-]+)'|(invalid_grant)"
)


@contextmanager
def translate_errors(root: str, key: str = "") -> Iterator[None]:
    """Turn a store's refusal into `StoreDenied`, silence into `StoreUnavailable`, a missing object into `ArtifactNotFound`.

    The rest passes.

    key: of the object that was asked for; where none was and yet something is missing, it is the bucket.
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
    missing = isinstance(error, FileNotFoundError)
    if told := _ROLE_ERROR.search(text):
        return StoreDenied(told[0])
    if _WRONG_REGION.search(text):
        return StoreDenied(
            f"The bucket of {root} lies in another region{_error_code(text)}. Set region_name of the connection that [zen] "
            "artifact_conn_id names, or AWS_REGION on the worker where it names none, to the bucket's region."
        )
    if _NO_SUCH_BUCKET.search(text) or (missing and not key):
        return StoreDenied(
            f"The store has no bucket or container as in {root}{_error_code(text)}. Create it, correct [zen] artifact_root, or, "
            "for a store of your own, give its address in the connection that [zen] artifact_conn_id names."
        )
    if missing:
        return ArtifactNotFound(f"Nothing is stored at {root}/{key}.")
    if isinstance(error, PermissionError) or _ACCESS_DENIED.search(text):
        return StoreDenied(
            f"The store refused access to {root}{_error_code(text)}. Check the credentials in the connection that [zen] "
            "artifact_conn_id names, or in the worker's environment where it names none, and that they may read, write, "
            "list and delete under the root."
        )
    return _unavailable_error(error, text, root)


def _unavailable_error(error: Exception, text: str, root: str) -> StoreUnavailable | None:
    if _STORAGE_FULL.search(text):
        return StoreUnavailable(
            f"The store has no room for what belongs under {root}{_error_code(text)}. Free some, with `airflow zen artifacts "
            "prune` for example, or give it more; then run the task again."
        )
    if busy := _SERVER_ERROR.search(text):
        return StoreUnavailable(
            f"The store of {root} answered every try with an error of its own ({busy[1]}). See whether it is "
            "overloaded, full or being restarted; then run the task again."
        )
    if isinstance(error, TimeoutError) or _TIMEOUT.search(text):
        return StoreUnavailable(
            f"The store of {root} did not answer in time. See whether it hangs, its disks are full, or something in between "
            "swallows what is sent; then run the task again."
        )
    return None


def _error_code(text: str) -> str:
    found = _ERROR_CODE.search(text)
    return f" ({next(filter(None, found.groups()))})" if found else ""
