"""What a test needs to know to talk to an S3 server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

REGION = "us-east-1"


@dataclass(frozen=True)
class S3Server:
    """One running S3 server and one empty bucket on it.

    checksums: `when_required` for a server that refuses the trailing checksums clients now send by default.
    conditional_writes: whether `If-None-Match: *` on an existing key is refused.
    certificate: the bundle that knows the server's certificate.
    admin: the command that makes users and roles, where the server has one.
    """

    endpoint: str
    access_key: str
    secret_key: str
    bucket: str
    checksums: str = "when_supported"
    conditional_writes: bool = True
    certificate: str = ""
    admin: tuple[str, ...] = ()

    @property
    def root(self) -> str:
        """The bucket as a URL."""
        return f"s3://{self.bucket}"

    def storage_options(self) -> dict[str, Any]:
        """Options of `fsspec.filesystem("s3", …)`; a new dict each time."""
        options: dict[str, Any] = {
            "key": self.access_key,
            "secret": self.secret_key,
            "client_kwargs": {"endpoint_url": self.endpoint, "region_name": REGION},
        }
        return options if self.checksums == "when_supported" else {**options, "config_kwargs": self._checksum_options()}

    def environment(self) -> dict[str, str]:
        """Environment variables from which every S3 client finds this server by itself."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ALLOW_HTTP": "true",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_REQUEST_CHECKSUM_CALCULATION": self.checksums,
            "AWS_RESPONSE_CHECKSUM_VALIDATION": self.checksums,
        }

    def client(self) -> Any:
        """Open a plain boto3 client."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            verify=self.certificate or None,
            config=Config(s3={"addressing_style": "path"}, **self._checksum_options()),
        )

    def create_bucket(self) -> S3Server:
        """Make the bucket through a plain client: `mkdir` of s3fs fails where a region is named."""
        self.client().create_bucket(Bucket=self.bucket)
        return self

    def _checksum_options(self) -> dict[str, str]:
        return {"request_checksum_calculation": self.checksums, "response_checksum_validation": self.checksums}
