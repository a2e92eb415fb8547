"""The credentials of an artifact root, in the form that each serving system reads."""

from __future__ import annotations

import json

import pytest

from airflow_zen.deployment import KServe, Seldon
from airflow_zen.errors import DeploymentFailed
from airflow_zen.steps.spec import StorageConnection
from airflow_zen.transports.credentials import fsspec_options

GOOGLE = {"type": "service_account", "project_id": "p"}
S3 = StorageConnection("c", "aws", login="key", password="secret", extra_dejson={"region_name": "eu-west-1"})
ANONYMOUS = StorageConnection("c", "aws", extra_dejson={"config_kwargs": {"signature_version": "unsigned"}})
ROLE = StorageConnection("c", "aws", extra_dejson={"role_arn": "arn:aws:iam::1:role/a"})
GCS = StorageConnection("c", "google_cloud_platform", extra_dejson={"keyfile_dict": json.dumps(GOOGLE)})
AZURE = StorageConnection("c", "wasb", login="account", password="azure-key")
MACHINE = StorageConnection("c", "aws", extra_dejson={"region_name": "eu-west-1"})
KSERVE = KServe(kubernetes="cluster")
CORE_2, CORE_1 = Seldon(kubernetes="cluster"), Seldon(kubernetes="cluster", core=1)


def remote(kind, name, **parameters):
    return {"remote": {"type": kind, "name": name, "parameters": parameters}}


@pytest.mark.parametrize(
    ("target", "connection", "expected"),
    [
        (KSERVE, S3, {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}),
        (KSERVE, ANONYMOUS, {}),
        (KSERVE, GCS, {"gcloud-application-credentials.json": GOOGLE}),
        (KSERVE, AZURE, {"AZURE_STORAGE_ACCESS_KEY": "azure-key"}),
        (
            CORE_2,
            S3,
            remote("s3", "s3", provider="AWS", access_key_id="key", secret_access_key="secret", region="eu-west-1"),
        ),
        (CORE_2, ANONYMOUS, remote("s3", "s3", provider="AWS")),
        (CORE_2, GCS, remote("google cloud storage", "gs", service_account_credentials=json.dumps(GOOGLE))),
        (CORE_2, AZURE, remote("azureblob", "az", account="account", key="azure-key")),
        (
            CORE_1,
            AZURE,
            {
                "RCLONE_CONFIG_AZ_TYPE": "azureblob",
                "RCLONE_CONFIG_AZ_ACCOUNT": "account",
                "RCLONE_CONFIG_AZ_KEY": "azure-key",
            },
        ),
    ],
)
def test_the_form_of_a_secret(target, connection, expected):
    """KServe reads variables and files, Seldon Core 2 a remote of rclone, Core 1 the same as variables."""
    secret = target.store_secret(fsspec_options(connection))
    found = {name: json.loads(value) if value.startswith("{") else value for name, value in secret.data.items()}
    assert found == expected
    if connection is S3 and target is KSERVE:
        assert secret.annotations["serving.kserve.io/s3-region"] == "eu-west-1"
    if connection is ANONYMOUS and target is KSERVE:
        assert secret.annotations["serving.kserve.io/s3-useanoncredential"] == "true"


@pytest.mark.parametrize("target", [KSERVE, CORE_2])
def test_a_role_cannot_be_passed_on(target):
    """A connection without keys asks for a service account of the cluster, or for a secret."""
    with pytest.raises(DeploymentFailed, match=r"Name a .* there: (KServe\(service_account|Seldon\(secret)='NAME'"):
        target.store_secret(fsspec_options(ROLE))


@pytest.mark.parametrize("target", [KSERVE, CORE_2, CORE_1])
def test_machines_with_access_need_no_secret(target):
    """A connection that has a region alone means that whoever reads the bucket has the access, in the cluster, too."""
    assert target.store_secret(fsspec_options(MACHINE)) is None
    assert target.store_secret({}) is None


def test_the_address_of_a_container_of_azure():
    """KServe reads it by its URL, rclone by the name of the remote."""
    options = fsspec_options(AZURE)
    assert KSERVE.storage_uri("abfs://c/zen/a", options) == "https://account.blob.core.windows.net/c/zen/a"
    assert CORE_2.storage_uri("abfs://c/zen/a", options) == "az://c/zen/a"
    assert CORE_2.storage_uri("s3a://b/zen/a", {}) == "s3://b/zen/a"
