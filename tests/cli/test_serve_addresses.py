"""Where `vhdx serve` listens, and whom it lets in."""

from __future__ import annotations

import argparse
import os
import socket
import stat
from pathlib import Path

import pytest

from vhdx.cli.addresses import Address, listen, parse_address
from vhdx.cli.options import UsageError


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("localhost:10000", "localhost", 10000),
        ("127.0.0.1", "127.0.0.1", 10809),
        ("[::1]:7", "::1", 7),
        ("[::1]", "::1", 10809),
        (":9", "localhost", 9),
        ("12345", "localhost", 12345),
        ("example.org", "example.org", 10809),
    ],
)
def test_addresses_in_every_spelling(text: str, host: str, port: int) -> None:
    assert parse_address(text) == Address(host=host, port=port)


@pytest.mark.parametrize("text", ["localhost:", "localhost:x", "localhost:65536", "localhost:-1", "::1:²"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not HOST:PORT"):
        parse_address(text)


def test_a_socket_of_its_own_lies_where_only_its_user_may_enter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with listen(Address(), may_be_public=False) as place:
        path = Path(place.sockets[0].getsockname())
        assert path.parent.parent == tmp_path
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert place.uri("a b/ä", tls=True) == f"nbds+unix:///a%20b/%C3%A4?socket={path}"
    assert not path.parent.exists()


def test_a_socket_that_nobody_listens_on_is_replaced_and_removed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    with listen(Address(path=str(path)), may_be_public=False):
        assert path.exists()
        with (
            pytest.raises(OSError, match="in use") as caught,
            listen(Address(path=str(path)), may_be_public=False),
        ):
            pass
        assert caught.value.filename == str(path)
    assert not path.exists()


def test_a_file_is_never_replaced_by_a_socket(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("precious")
    with pytest.raises(OSError, match="in use"), listen(Address(path=str(path)), may_be_public=False):
        pass
    assert path.read_text() == "precious"


def test_a_path_that_is_too_long_says_so(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match="too long for a socket"),
        listen(Address(path=str(tmp_path / ("x" * 120))), may_be_public=False),
    ):
        pass


def test_public_address_needs_tls_or_an_option() -> None:
    with (
        pytest.raises(UsageError, match="--tls-certs DIR, or say --allow-plaintext"),
        listen(Address(host="0.0.0.0", port=0), may_be_public=False),
    ):
        pass
    with listen(Address(host="0.0.0.0", port=0), may_be_public=True) as place:
        assert place.uri("x", tls=False).startswith("nbd://0.0.0.0:")


def test_loopback_address_needs_neither_tls_nor_an_option() -> None:
    with listen(Address(host="localhost", port=0), may_be_public=False) as place:
        port = place.sockets[0].getsockname()[1]
        assert port
        assert place.uri("", tls=True) == f"nbds://localhost:{port}/"
    with listen(Address(host="::1", port=0), may_be_public=False) as place:
        assert place.uri("", tls=False).startswith("nbd://[::1]:")


def test_a_port_that_is_taken_is_named() -> None:
    with listen(Address(host="127.0.0.1", port=0), may_be_public=False) as place:
        port = place.sockets[0].getsockname()[1]
        with (
            pytest.raises(OSError, match="in use") as caught,
            listen(Address(host="127.0.0.1", port=port), may_be_public=False),
        ):
            pass
        assert caught.value.filename == f"127.0.0.1:{port}"


def test_a_host_that_is_unknown_is_named() -> None:
    with (
        pytest.raises(UsageError, match="--listen no\\.such"),
        listen(Address(host="no.such.host.invalid"), may_be_public=False),
    ):
        pass


def test_sockets_meant_for_another_process_are_not_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getpid() + 1))
    monkeypatch.setenv("LISTEN_FDS", "1")
    with listen(Address(path=str(tmp_path / "s")), may_be_public=False) as place:
        assert place.sockets[0].getsockname() == str(tmp_path / "s")
