"""Promises of `airflow_zen.transports.base` on the errors of clients."""

import pytest

from airflow_zen.errors import AlreadyExists, ArtifactNotFound, StoreDenied
from airflow_zen.transports.base import translate_errors


@pytest.mark.parametrize(
    ("said", "told"),
    [
        # What AWS answers to a client of another region: no server that runs here does.
        (
            OSError("Received redirect without LOCATION, this normally indicates an incorrectly configured region"),
            "another region. Set region_name",
        ),
        (
            OSError(
                "400 Bad Request: <Error><Code>AuthorizationHeaderMalformed</Code><Message>The authorization header is "
                "malformed; the region 'us-east-1' is wrong; expecting 'eu-west-1'</Message></Error>"
            ),
            r"another region \(AuthorizationHeaderMalformed\)",
        ),
        (
            PermissionError(
                "An error occurred (PermanentRedirect) when calling the PutObject operation: The bucket you are attempting "
                "to access must be addressed using the specified endpoint."
            ),
            r"another region \(PermanentRedirect\)",
        ),
        # Google's, which its emulator never gives: no permission, and a key that is no longer taken.
        (OSError("Forbidden: b/r/o\nworker@zen does not have storage.objects.create access"), "Check the credentials"),
        (OSError("('invalid_grant: Invalid JWT Signature.', {})"), r"\(invalid_grant\)\. Check the credentials"),
        (OSError("(ExpiredToken) when calling the GetObject operation"), r"\(ExpiredToken\). Check the credentials"),
    ],
)
def test_an_error_names_the_setting_to_fix(said, told):
    """A client's error becomes one that names the setting to fix."""
    with pytest.raises(StoreDenied, match=told) as refused, translate_errors("s3://b/r"):
        raise said
    assert refused.value.__cause__ is said


def test_missing_object_or_missing_bucket():
    """Reading a missing object is `ArtifactNotFound`; when writing, what is missing is the bucket."""
    with pytest.raises(ArtifactNotFound, match="at s3://b/r/key"), translate_errors("s3://b/r", "key"):
        raise FileNotFoundError
    with pytest.raises(StoreDenied, match="Create it"), translate_errors("s3://b/r"):
        raise FileNotFoundError


@pytest.mark.parametrize("error", [AlreadyExists("s3://b/r/key exists."), RuntimeError("of unknown meaning")])
def test_other_errors_pass(error):
    """Our own errors, and errors of unknown meaning, pass unchanged."""
    with pytest.raises(type(error)) as passed, translate_errors("s3://b/r"):
        raise error
    assert passed.value is error
