"""Directories of certificates as QEMU's tls-creds-x509 and libnbd want them, made for a test."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

SERVER_NAME = "vhdx.test"


def make_ca() -> trustme.CA:
    return trustme.CA()


def write_server(
    directory: Path,
    ca: trustme.CA,
    *,
    clients_of: trustme.CA | None = None,
    names: Sequence[str] = (SERVER_NAME, "localhost", "127.0.0.1"),
) -> Path:
    """Write a server's directory; with `clients_of`, its clients need a certificate of that CA."""
    directory.mkdir()
    certificate = ca.issue_cert(*names)
    certificate.private_key_pem.write_to_path(directory / "server-key.pem")
    _write_chain(certificate, directory / "server-cert.pem")
    if clients_of is not None:
        clients_of.cert_pem.write_to_path(directory / "ca-cert.pem")
    return directory


def write_client(
    directory: Path, server_ca: trustme.CA, *, issued_by: trustme.CA | None = None, expired: bool = False
) -> Path:
    """Write a client's directory: the CA it trusts and, with `issued_by`, its own certificate."""
    directory.mkdir()
    server_ca.cert_pem.write_to_path(directory / "ca-cert.pem")
    if issued_by is not None:
        until = datetime.now(UTC) - timedelta(days=1) if expired else None
        certificate = issued_by.issue_cert(common_name="client", not_after=until)
        certificate.private_key_pem.write_to_path(directory / "client-key.pem")
        _write_chain(certificate, directory / "client-cert.pem")
    return directory


def write_revocation(directory: Path, ca: trustme.CA, client: Path) -> None:
    """Let a server's directory say that a client's certificate is revoked."""
    revoked = x509.load_pem_x509_certificate((client / "client-cert.pem").read_bytes())
    authority = x509.load_pem_x509_certificate(ca.cert_pem.bytes())
    key = serialization.load_pem_private_key(ca.private_key_pem.bytes(), None)
    now = datetime.now(UTC)
    entry = x509.RevokedCertificateBuilder().serial_number(revoked.serial_number).revocation_date(now).build()
    crl = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.subject)
        .last_update(now - timedelta(days=1))
        .next_update(now + timedelta(days=1))
        .add_revoked_certificate(entry)
        .sign(key, hashes.SHA256())  # type: ignore[arg-type]
    )
    (directory / "ca-crl.pem").write_bytes(crl.public_bytes(serialization.Encoding.PEM))


def _write_chain(certificate: trustme.LeafCert, path: Path) -> None:
    for position, part in enumerate(certificate.cert_chain_pems):
        part.write_to_path(path, append=position > 0)
