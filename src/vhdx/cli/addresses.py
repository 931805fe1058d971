"""Where a server listens: a Unix socket, TCP, or the sockets that systemd hands over."""

from __future__ import annotations

import argparse
import ipaddress
import os
import socket
import stat
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vhdx.cli.options import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT_PORT: Final = 10809
_BACKLOG: Final = 128
_FIRST_PASSED_FD: Final = 3


@dataclass(frozen=True, slots=True)
class Address:
    """What the command line says: a path, or a host and a port. With neither: a socket in a folder of its own."""

    path: str | None = None
    host: str | None = None
    port: int = DEFAULT_PORT


@dataclass(frozen=True, slots=True)
class Listeners:
    """Listening sockets, as clients can reach them."""

    sockets: list[socket.socket]
    host: str | None = None
    """As the user wrote it: a certificate names a host, not its number."""

    def uri(self, export: str, *, tls: bool) -> str:
        """Where a client finds an export ([NBD URI] specification)."""
        from urllib.parse import quote

        scheme = "nbds" if tls else "nbd"
        name = self.sockets[0].getsockname()
        if isinstance(name, tuple):
            host = self.host or name[0]
            host = f"[{host}]" if ":" in host else host
            return f"{scheme}://{host}:{name[1]}/{quote(export)}"
        return f"{scheme}+unix:///{quote(export)}?socket={quote(os.fsdecode(name))}"


def parse_address(text: str) -> Address:
    """Read HOST:PORT, [IPV6]:PORT, HOST, :PORT or PORT.

    Raises: argparse.ArgumentTypeError.
    """
    host, colon, port = text.rpartition(":")
    if text.endswith("]") or not (colon or text.isdigit()):
        host, port = text, str(DEFAULT_PORT)
    if not port.isascii() or not port.isdigit() or not 0 <= int(port) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return Address(host=host.strip("[]") or "localhost", port=int(port))


@contextmanager
def listen(address: Address, *, may_be_public: bool) -> Iterator[Listeners]:
    """Listen while the context lasts; a Unix socket that was made is removed.

    Sockets that systemd hands over (LISTEN_FDS) come first. Raises: UsageError for an address that others can
    reach unless `may_be_public`; OSError.
    """
    with ExitStack() as stack:
        passed = _passed_sockets()
        if passed:
            sockets = passed
        elif address.host is not None:
            sockets = _listen_tcp(address.host, address.port, may_be_public=may_be_public)
        else:
            path = address.path
            if path is None:
                folder = tempfile.TemporaryDirectory(
                    prefix="vhdx-", dir=os.environ.get("XDG_RUNTIME_DIR"), ignore_cleanup_errors=True
                )
                path = os.path.join(stack.enter_context(folder), "nbd.sock")  # noqa: PTH118
            sockets = [_listen_unix(path)]
            stack.callback(_unlink, path)
        for listener in sockets:
            stack.callback(listener.close)
        yield Listeners(sockets, None if passed else address.host)


def _passed_sockets() -> list[socket.socket]:
    """Listening sockets from the service manager (sd_listen_fds), if it has passed any to this process."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = os.environ.get("LISTEN_FDS", "")
    sockets = []
    for fd in range(_FIRST_PASSED_FD, _FIRST_PASSED_FD + (int(count) if count.isdigit() else 0)):
        listener = socket.socket(fileno=fd)
        if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise UsageError(f"the service manager passed descriptor {fd}, which does not listen")
        listener.set_inheritable(False)
        sockets.append(listener)
    return sockets


def _listen_tcp(host: str, port: int, *, may_be_public: bool) -> list[socket.socket]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise UsageError(f"--listen {host}: {error.strerror}") from None
    if not may_be_public:
        for *_, address in found:
            if not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback:
                raise UsageError(
                    f"{address[0]} can be reached from other machines, and without TLS anybody there could use it;"
                    " use --tls-certs DIR, or say --allow-plaintext"
                )
    sockets: list[socket.socket] = []
    for family, kind, protocol, _, address in found:
        if sockets and not port:
            break  # the system chooses the port, and would choose another one for each address
        listener = socket.socket(family, kind, protocol)
        sockets.append(listener)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            listener.bind(address)
        except OSError as error:
            for each in sockets:
                each.close()
            raise OSError(error.errno, error.strerror, f"{host}:{port}") from None
        listener.listen(_BACKLOG)
    return sockets


def _listen_unix(path: str) -> socket.socket:
    if not hasattr(socket, "AF_UNIX"):
        raise UsageError("this system has no Unix sockets for Python; use --listen HOST:PORT")
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # For its owner alone. Users who want to let others in change the mode of the socket, or of its folder.
        before = os.umask(0o177)
        try:
            listener.bind(path)
        finally:
            os.umask(before)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        reason = "the path is too long for a socket" if error.errno is None else error.strerror
        raise OSError(error.errno, reason, path) from None
    return listener


def _remove_stale(path: str) -> None:
    """Remove a socket that no process listens on any more, and no other kind of file. Raises: OSError."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)  # noqa: PTH108


def _unlink(path: str) -> None:
    try:
        os.unlink(path)  # noqa: PTH108
    except FileNotFoundError:
        pass
