"""libnbd and QEMU over TLS: who has the right certificate comes in, and nobody else."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from nbd.certificates import make_ca, write_client, write_server
from support.served_disks import SIZE, assert_sound, flattened, image_of, mottled_raw
from support.serving import STOP_SECONDS, Serving, environment, serve_command, serving
from writing.programs import attempt, need, run

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return make_ca()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return image_of(mottled_raw(tmp_path / "disk.raw"), tmp_path / "disk.vhdx")


@pytest.fixture(params=[False, True], ids=["any client", "known clients"])
def server(request: pytest.FixtureRequest, image: Path, tmp_path: Path, ca: trustme.CA) -> Iterator[Serving]:
    """A server with a certificate, which in its second form wants one of its clients, too."""
    certificates = write_server(tmp_path / "server", ca, clients_of=ca if request.param else None)
    address = ("--listen", "localhost:0", "--tls-certs", certificates)
    with serving(tmp_path, image, address=address) as found:
        yield found


@pytest.fixture
def client(tmp_path: Path, ca: trustme.CA) -> Path:
    """Certificates of a client that both kinds of server take."""
    return write_client(tmp_path / "client", ca, issued_by=ca)


def uri(server: Serving, client: Path) -> str:
    """Where libnbd finds the server, and its certificates. They are made out to a name, not to an address."""
    port = re.sub(r".*:(\d+)/$", r"\1", server.uri)
    return f"nbds://localhost:{port}/?tls-certificates={client}"


def test_disk_is_copied_out_and_in_over_tls(
    server: Serving, client: Path, image: Path, tmp_path: Path
) -> None:
    nbdcopy, new = need("nbdcopy", "libnbd-bin"), mottled_raw(tmp_path / "new.raw", seed=12)
    assert server.uri.startswith("nbds://")
    run(need("nbdinfo", "libnbd-bin"), "--is", "tls", uri(server, client))
    run(nbdcopy, "--connections=4", uri(server, client), tmp_path / "out.raw")
    run("cmp", tmp_path / "out.raw", tmp_path / "disk.raw")
    run(nbdcopy, "--connections=4", "--flush", new, uri(server, client))
    server.stop()
    assert_sound(image)
    run("cmp", flattened(image, tmp_path / "flat.raw"), new)


def test_qemu_reads_over_tls(server: Serving, client: Path, tmp_path: Path) -> None:
    port = re.sub(r".*:(\d+)/$", r"\1", server.uri)
    run(
        need("qemu-img", "qemu-utils"),
        "convert",
        "--object",
        f"tls-creds-x509,id=tls0,dir={client},endpoint=client",
        "--image-opts",
        f"driver=nbd,host=localhost,port={port},tls-creds=tls0",
        "-O",
        "raw",
        tmp_path / "out.raw",
    )
    run("cmp", tmp_path / "out.raw", tmp_path / "disk.raw")


def test_client_that_does_not_trust_the_server_leaves_and_the_server_goes_on(
    server: Serving, client: Path, tmp_path: Path, ca: trustme.CA
) -> None:
    nbdinfo = need("nbdinfo", "libnbd-bin")
    suspicious = write_client(tmp_path / "suspicious", make_ca(), issued_by=ca)
    assert attempt(nbdinfo, "--size", uri(server, suspicious)).returncode != 0
    assert int(run(nbdinfo, "--size", uri(server, client))) == SIZE


def test_client_without_tls_is_turned_away(server: Serving, client: Path) -> None:
    nbdinfo = need("nbdinfo", "libnbd-bin")
    plain = re.sub(r"\?.*", "", uri(server, client)).replace("nbds:", "nbd:")
    for arguments in (("--size", plain), ("--list", plain)):
        done = attempt(nbdinfo, *arguments)
        assert done.returncode != 0
        assert str(SIZE) not in done.stdout
    assert int(run(nbdinfo, "--size", uri(server, client))) == SIZE


@pytest.mark.parametrize("server", [True], indirect=True)
@pytest.mark.parametrize("whose", ["missing", "of another authority", "expired"])
def test_client_with_a_wrong_certificate_is_turned_away(
    server: Serving, client: Path, tmp_path: Path, ca: trustme.CA, whose: str
) -> None:
    nbdinfo = need("nbdinfo", "libnbd-bin")
    issuers = {"missing": None, "of another authority": make_ca(), "expired": ca}
    wrong = write_client(tmp_path / "wrong", ca, issued_by=issuers[whose], expired=whose == "expired")
    done = attempt(nbdinfo, "--size", uri(server, wrong))
    assert done.returncode != 0
    assert str(SIZE) not in done.stdout
    assert not any("connected" in line for line in server.log)
    assert int(run(nbdinfo, "--size", uri(server, client))) == SIZE


def test_server_without_tls_does_not_pretend(image: Path, client: Path, tmp_path: Path) -> None:
    with serving(tmp_path, image, address=("--listen", "localhost:0")) as server:
        done = attempt(need("nbdinfo", "libnbd-bin"), "--size", uri(server, client))
        assert done.returncode != 0
        assert "TLS" in done.stderr


def test_public_address_needs_no_more_leave_with_tls(
    image: Path, client: Path, tmp_path: Path, ca: trustme.CA
) -> None:
    certificates = write_server(tmp_path / "server", ca)
    address = ("--listen", "0.0.0.0:0", "--tls-certs", certificates)
    with serving(tmp_path, image, address=address) as server:
        assert int(run(need("nbdinfo", "libnbd-bin"), "--size", uri(server, client))) == SIZE


def test_certificates_that_are_not_there_stop_the_start(image: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = subprocess.run(
        serve_command("--listen", "localhost:0", "--tls-certs", tmp_path / "empty", image),
        capture_output=True,
        text=True,
        check=False,
        timeout=STOP_SECONDS,
        env=environment(),
    )
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert "server-cert.pem" in line
