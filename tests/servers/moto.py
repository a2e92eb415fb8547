"""An S3 server in Python with strict conditional writes, also for multipart uploads."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.servers.process import accepts, free_port, running
from tests.servers.s3 import S3Server


@contextmanager
def moto(directory: Path, *, tls: bool = False) -> Iterator[S3Server]:
    """Run moto's server; it accepts any credentials and keeps everything in memory. Its STS lets anyone assume a role.

    tls: behind a certificate that it signed itself.
    """
    port = free_port()
    command = [sys.executable, "-c", "from moto.server import main; main()", "-H", "127.0.0.1", "-p", str(port)]
    certificate, key = _sign(directory) if tls else ("", "")
    if tls:
        command += ["--ssl", "--ssl-cert", certificate, "--ssl-key", key]
    with running(command, log=directory / "moto.out", answers=lambda: accepts(port)):
        yield S3Server(
            f"{'https' if tls else 'http'}://127.0.0.1:{port}",
            access_key="zen-access",
            secret_key="zen-secret",
            bucket="zen",
            certificate=certificate,
        ).create_bucket()


def _sign(directory: Path) -> tuple[str, str]:
    """Write a certificate for 127.0.0.1 and its key."""
    now, key = datetime.now(UTC), ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "moto")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
    address = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))])
    certificate = builder.add_extension(address, critical=False).sign(key, hashes.SHA256())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (directory / "certificate.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (directory / "key.pem").write_bytes(private)
    return str(directory / "certificate.pem"), str(directory / "key.pem")
