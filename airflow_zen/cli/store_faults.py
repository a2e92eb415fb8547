"""What a store's error means, and how to mend it."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from airflow_zen.errors import StoreUnavailable, ZenError
from airflow_zen.settings import Settings

# S3's own word for what is wrong: in the answer that obstore quotes, or as botocore tells it.
_S3_ERROR_CODE = re.compile(r"<Code>(\w+)</Code>|An error occurred \((\w+)\)")
_HTTP_STATUS = re.compile(r"status code: (\d{3})")

_REMEDIES = {
    "InvalidAccessKeyId": "The store does not know this access key. Correct the key id in {credentials}.",
    "SignatureDoesNotMatch": "The secret is not the one of this access key. Correct the secret in {credentials}.",
    "NoSuchBucket": "There is no bucket {bucket!r} at this endpoint. Create it, or correct {root}.",
    # Some stores say so of a wrong key too.
    "AccessDenied": "The store refuses this key. Correct key and secret in {credentials}, or allow the key s3:PutObject, "
    "s3:GetObject, s3:DeleteObject and s3:ListBucket on bucket {bucket!r}.",
    "AuthorizationHeaderMalformed": "The bucket is in another region. Set region_name in {credentials} to its own.",
    "PermanentRedirect": "The bucket is in another region. Set region_name in {credentials} to its own.",
    "IllegalLocationConstraintException": "The bucket is in another region. Set region_name in {credentials} to its own.",
    "RequestTimeTooSkewed": "This machine's clock is off. Set it (chrony or systemd-timesyncd).",
    "ExpiredToken": "The session token in {credentials} has expired. Renew it, or use a role.",
    "InvalidToken": "The session token in {credentials} is not valid. Renew it, or leave it out.",
    "MethodNotAllowed": "What answers at this endpoint is no S3 API. Correct endpoint_url in {credentials}.",
}
_MISSING_CREDENTIALS = (
    "Unable to locate credentials",
    "NoCredentials",
    "credential provider",
    "CredentialsError",
    "169.254.169.254",
)


def diagnose(error: BaseException, settings: Settings) -> tuple[str, str]:
    """Say in one line what a store's library raised, and what mends it; the remedy is empty where nobody knows."""
    text = " ".join(str(each) for each in _error_chain(error))
    where = _remedy_fields(settings)
    match = _S3_ERROR_CODE.search(text)
    code = next(filter(None, match.groups())) if match else ""
    if code and (code in _REMEDIES or not isinstance(error, ZenError)):
        status = _HTTP_STATUS.search(text)
        return f"{code}{f' (HTTP {status[1]})' if status else ''}", _REMEDIES.get(code, "").format(**where)
    if any(sign in text for sign in _MISSING_CREDENTIALS):
        return (
            "no credentials were found",
            f"Name a connection in {settings.qualified_option('artifact_conn_id')}, or set AWS_ACCESS_KEY_ID.",
        )
    if isinstance(error, ZenError):
        # A refusal of a remote store is a `PermissionError` too, and says itself what mends it.
        return code or ("no answer" if isinstance(error, StoreUnavailable) else "refused"), str(error)
    if isinstance(error, PermissionError):
        return str(
            error
        ), f"Let this user write under {settings.artifact_root}, or choose another root in {where['root']}."
    first = next((line for line in text.splitlines() if line.strip()), repr(error))
    return f"{type(error).__name__}: {first[:200]}", ""


def _remedy_fields(settings: Settings) -> dict[str, str]:
    conn_id = settings.artifact_conn_id
    return {
        "bucket": urlsplit(settings.artifact_root).netloc,
        "root": settings.qualified_option("artifact_root"),
        "credentials": f"connection {conn_id!r}" if conn_id else "the environment (AWS_* or ~/.aws)",
    }


def _error_chain(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found
