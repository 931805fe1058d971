"""TLS between `vhdx serve` and the clients that others have made: libnbd's tools, and qemu-img."""

import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme

import vhdx
from support.certificates import SERVER_NAME, make_ca, write_client, write_revocation, write_server
from support.serving import STOP_SECONDS, Serving, environment, serve_command, serving
from support.units import MIB

pytestmark = pytest.mark.interop

SIZE = 48 * MIB
HANG = 60
"""Seconds after which a client has hung."""


@pytest.fixture(scope="module", autouse=True)
def need_clients() -> None:
    missing = [name for name in ("nbdinfo", "nbdcopy", "qemu-img") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed (Debian: libnbd-bin, qemu-utils)")


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return make_ca()


@pytest.fixture(scope="module")
def other_ca() -> trustme.CA:
    return make_ca()


@pytest.fixture
def content(tmp_path: Path) -> Path:
    """What is on the disk: data, holes between them."""
    path = tmp_path / "content.raw"
    with path.open("wb") as file:
        for start in range(0, SIZE, 16 * MIB):
            file.seek(start)
            file.write(random.Random(start).randbytes(5 * MIB + 512))
        file.truncate(SIZE)
    return path


@pytest.fixture
def image(tmp_path: Path, content: Path) -> Path:
    path = tmp_path / "disk.vhdx"
    vhdx.create(path, SIZE, block_size=4 * MIB)
    with vhdx.open(path, "r+") as disk, content.open("rb") as file:
        for offset in range(0, SIZE, MIB):
            piece = file.read(MIB)
            if any(piece):
                disk.pwrite(piece, offset)
    return path


@contextmanager
def strict_server(tmp_path: Path, image: Path, ca: trustme.CA) -> Iterator[Serving]:
    """A server whose clients need a certificate of the same CA."""
    directory = write_server(tmp_path / "server", ca, clients_of=ca)
    with serving(tmp_path, "--tls-certs", directory, image) as server:
        yield server


@contextmanager
def tcp_server(tmp_path: Path, image: Path, directory: Path) -> Iterator[Serving]:
    where = ("--listen", "localhost:0")
    with serving(tmp_path, "--tls-certs", directory, image, address=where) as server:
        yield server


def call(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=HANG, check=False)


def with_certificates(uri: str, client: Path) -> str:
    return f"{uri}{'&' if '?' in uri else '?'}tls-certificates={client}"


def size_told_to(client: Path, server: Serving) -> int:
    done = call("nbdinfo", "--size", with_certificates(server.uri, client))
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def refusal_of(client: Path, server: Serving, reason: str) -> str:
    """What the client says when it is not served; the server must have logged its reason."""
    done = call("nbdinfo", "--size", with_certificates(server.uri, client))
    assert done.returncode != 0, done.stdout
    assert any(reason in line for line in server.log), server.log
    return done.stderr


def test_client_needs_no_certificate_where_no_ca_is_given(
    tmp_path: Path, image: Path, ca: trustme.CA
) -> None:
    directory = write_server(tmp_path / "server", ca)
    with serving(tmp_path, "--tls-certs", directory, image) as server:
        assert server.uri.startswith("nbds+unix:")
        assert size_told_to(write_client(tmp_path / "client", ca), server) == SIZE


def test_client_with_a_good_certificate_is_served(tmp_path: Path, image: Path, ca: trustme.CA) -> None:
    client = write_client(tmp_path / "client", ca, issued_by=ca)
    with strict_server(tmp_path, image, ca) as server:
        assert size_told_to(client, server) == SIZE
        done = call("nbdinfo", with_certificates(server.uri, client))
        assert "protocol: newstyle-fixed with TLS" in done.stdout


def test_disk_is_copied_out_and_in_through_tls(
    tmp_path: Path, image: Path, content: Path, ca: trustme.CA
) -> None:
    client = write_client(tmp_path / "client", ca, issued_by=ca)
    copy, changed = tmp_path / "copy.raw", tmp_path / "changed.raw"
    changed.write_bytes(random.Random(1).randbytes(24 * MIB) + bytes(SIZE - 24 * MIB))
    with strict_server(tmp_path, image, ca) as server:
        uri = with_certificates(server.uri, client)
        assert call("nbdcopy", "--requests", "32", "--connections", "4", uri, copy).returncode == 0
        assert copy.read_bytes() == content.read_bytes()
        assert call("nbdcopy", "--requests", "32", "--flush", changed, uri).returncode == 0
    with vhdx.open(image) as disk:
        assert disk.pread(SIZE, 0) == changed.read_bytes()


def test_client_without_a_certificate_is_refused(tmp_path: Path, image: Path, ca: trustme.CA) -> None:
    client = write_client(tmp_path / "client", ca)
    with strict_server(tmp_path, image, ca) as server:
        refusal_of(client, server, "TLS: peer did not return a certificate")


def test_client_of_another_ca_is_refused(
    tmp_path: Path, image: Path, ca: trustme.CA, other_ca: trustme.CA
) -> None:
    client = write_client(tmp_path / "client", ca, issued_by=other_ca)
    with strict_server(tmp_path, image, ca) as server:
        refusal_of(client, server, "TLS: ")


def test_client_whose_certificate_has_expired_is_refused(tmp_path: Path, image: Path, ca: trustme.CA) -> None:
    client = write_client(tmp_path / "client", ca, issued_by=ca, expired=True)
    with strict_server(tmp_path, image, ca) as server:
        refusal_of(client, server, "TLS: certificate verify failed")


def test_client_whose_certificate_is_revoked_is_refused(tmp_path: Path, image: Path, ca: trustme.CA) -> None:
    client = write_client(tmp_path / "client", ca, issued_by=ca)
    directory = write_server(tmp_path / "server", ca, clients_of=ca)
    write_revocation(directory, ca, client)
    with serving(tmp_path, "--tls-certs", directory, image) as server:
        refusal_of(client, server, "TLS: certificate verify failed")


def test_client_does_not_trust_a_server_of_another_ca(
    tmp_path: Path, image: Path, ca: trustme.CA, other_ca: trustme.CA
) -> None:
    client = write_client(tmp_path / "client", other_ca, issued_by=ca)
    directory = write_server(tmp_path / "server", ca, clients_of=ca)
    # On Unix sockets libnbd takes any server for the right one.
    with tcp_server(tmp_path, image, directory) as server:
        assert "certificate" in refusal_of(client, server, "closed: ")


def test_client_without_tls_is_refused_and_told_why(tmp_path: Path, image: Path, ca: trustme.CA) -> None:
    with strict_server(tmp_path, image, ca) as server:
        done = call("nbdinfo", "--size", server.uri.replace("nbds", "nbd"))
        assert done.returncode != 0
        assert "TLS" in done.stderr
        assert size_told_to(write_client(tmp_path / "client", ca, issued_by=ca), server) == SIZE


def test_client_that_insists_on_tls_is_not_served_without(
    tmp_path: Path, image: Path, ca: trustme.CA
) -> None:
    with serving(tmp_path, image) as server:
        uri = with_certificates(server.uri.replace("nbd+", "nbds+"), write_client(tmp_path / "client", ca))
        assert call("nbdinfo", "--size", uri).returncode != 0
        assert call("nbdinfo", "--size", server.uri).returncode == 0


def test_name_of_a_tcp_server_is_checked(tmp_path: Path, image: Path, ca: trustme.CA) -> None:
    client = write_client(tmp_path / "client", ca, issued_by=ca)
    with tcp_server(tmp_path, image, write_server(tmp_path / "server", ca, clients_of=ca)) as server:
        assert server.uri.startswith("nbds://")
        assert size_told_to(client, server) == SIZE
    elsewhere = write_server(tmp_path / "elsewhere", ca, clients_of=ca, names=["elsewhere.test"])
    with tcp_server(tmp_path, image, elsewhere) as server:
        done = call("nbdinfo", "--size", with_certificates(server.uri, client))
        assert done.returncode != 0
        assert "certificate" in done.stderr


def qemu_options(server: Serving, client: Path) -> list[str]:
    address = server.uri.removeprefix("nbds://").rstrip("/")
    host, _, port = address.rpartition(":")
    return [
        "--object",
        f"tls-creds-x509,id=tls0,endpoint=client,verify-peer=yes,dir={client}",
        "--image-opts",
        f"driver=nbd,server.type=inet,server.host={host},server.port={port},tls-creds=tls0,tls-hostname={SERVER_NAME}",
    ]


def test_qemu_converts_through_tls(tmp_path: Path, image: Path, content: Path, ca: trustme.CA) -> None:
    client = write_client(tmp_path / "client", ca, issued_by=ca)
    copy = tmp_path / "copy.raw"
    with tcp_server(tmp_path, image, write_server(tmp_path / "server", ca, clients_of=ca)) as server:
        done = call("qemu-img", "convert", "-O", "raw", *qemu_options(server, client), copy)
        assert done.returncode == 0, done.stderr
    assert copy.read_bytes() == content.read_bytes()


def test_qemu_without_a_certificate_is_refused(tmp_path: Path, image: Path, ca: trustme.CA) -> None:
    client = write_client(tmp_path / "client", ca)
    with tcp_server(tmp_path, image, write_server(tmp_path / "server", ca, clients_of=ca)) as server:
        assert call("qemu-img", "info", *qemu_options(server, client)).returncode != 0
        assert any("TLS: peer did not return a certificate" in line for line in server.log)


def test_public_address_needs_no_more_leave_with_tls(tmp_path: Path, image: Path, ca: trustme.CA) -> None:
    directory = write_server(tmp_path / "server", ca)
    address = ("--listen", "0.0.0.0:0")
    with serving(tmp_path, "--tls-certs", directory, image, address=address) as server:
        uri = server.uri.replace("0.0.0.0", "localhost")
        client = write_client(tmp_path / "client", ca)
        assert call("nbdinfo", "--size", with_certificates(uri, client)).stdout == f"{SIZE}\n"


def test_certificates_that_are_not_there_stop_the_start(image: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    command = serve_command("--listen", "localhost:0", "--tls-certs", tmp_path / "empty", image)
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=STOP_SECONDS, env=environment()
    )
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert "server-cert.pem" in line
