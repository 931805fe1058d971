"""TLS on a connection: a channel that encrypts, and the server's certificates.

CPython's SSLSocket cannot be read by one thread while another writes. Here OpenSSL works in memory only, under a
lock that no thread holds while it waits for the network. What OpenSSL has encrypted is sent under a second lock, in
the order in which it was encrypted.
"""

from __future__ import annotations

import ssl
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from vhdx._units import KIB
from vhdx.errors import RequestError
from vhdx.nbd.channel import ChannelError

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from vhdx._buffer import Buffer
    from vhdx.nbd.channel import SocketChannel

_RECEIVE_BYTES: Final = 64 * KIB
_ENCRYPT_BYTES: Final = 128 * KIB
"""Encrypted before it is sent, roughly. Bounds the copy that is held, and how long a receiving thread waits."""
_AHEAD_BYTES: Final = 16 * KIB
"""A record's greatest content."""


class TlsChannel:
    """The server's side of TLS on top of a socket channel, which it owns. A `Channel`."""

    sends_files = False

    def __init__(self, below: SocketChannel, context: ssl.SSLContext) -> None:
        """Take over a channel; call `handshake` before anything else."""
        self._below = below
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._working = threading.Lock()
        """Held while OpenSSL works on either direction."""
        self._sending = threading.Lock()
        """Held from encrypting until the result has been sent. Taken before `_working`."""
        self._received = memoryview(bytearray(_RECEIVE_BYTES))
        self._ahead = memoryview(b"")
        """Bytes that have been decrypted and that no `receive_into` has taken yet."""
        self._ended = False
        """The client sends no more."""
        self.peer = below.peer
        self.sent_bytes = 0

    def handshake(self, deadline: float) -> None:
        """Agree with the client on keys, and check its certificate if a CA was given.

        `deadline`: as time.monotonic() tells it. Raises: ChannelError.
        """
        while not self._shake():
            left = deadline - time.monotonic()
            if left <= 0 or not self._below.wait(left):
                raise ChannelError("TLS: the handshake took too long")
            self._receive()
            if self._ended:
                raise ChannelError("TLS: the client left in the middle of the handshake")

    def _shake(self) -> bool:
        """Go as far as possible with what has been received; say whether that was the end."""
        done = True
        with self._working:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                done = False
            except ssl.SSLError as error:
                raise _broken(error) from None  # the alert is sent by `close`
            encrypted = self._outgoing.read()
        if encrypted:
            self._below.send((encrypted,))
        return done

    def receive_into(self, buffer: memoryview) -> int:
        if self._ahead:
            count = min(len(self._ahead), len(buffer))
            buffer[:count] = self._ahead[:count]
            self._ahead = self._ahead[count:]
            return count
        while not (count := self._decrypt(buffer)) and not self._ended:
            self._receive()
        return count

    def wait(self, timeout_seconds: float) -> bool:
        """As every channel: a part of a record is not enough, because the rest may never come."""
        deadline = time.monotonic() + timeout_seconds
        while not self._look_ahead():
            if not self._below.wait(max(0.0, deadline - time.monotonic())):
                return False
            self._receive()
        return True

    def _look_ahead(self) -> bool:
        if not self._ahead and not self._ended:
            ahead = memoryview(bytearray(_AHEAD_BYTES))
            self._ahead = ahead[: self._decrypt(ahead)]
        return bool(self._ahead) or self._ended

    def _decrypt(self, buffer: memoryview) -> int:
        """Decrypt what has been received into a buffer; 0: no whole record is there, or the end."""
        count = 0
        try:
            with self._working:
                while count < len(buffer) and not self._ended:
                    # A number, whatever typeshed says: bytes are returned only where there is no buffer.
                    got = cast("int", self._tls.read(len(buffer) - count, buffer[count:]))
                    self._ended = not got
                    count += got
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            raise _broken(error) from None
        return count

    def _receive(self) -> None:
        count = self._below.receive_into(self._received)
        if count:
            with self._working:
                self._incoming.write(self._received[:count])
        else:
            # The client has closed the connection without saying so in TLS. OpenSSL is not told, because it would
            # not send anything afterwards. An end that somebody on the way has forged does no harm: only whole
            # requests are obeyed.
            self._ended = True

    def send(self, parts: Sequence[Buffer]) -> None:
        """As every channel; small parts share a record."""
        clear = bytearray()
        with self._sending:
            for part in parts:
                view = memoryview(part).cast("B")
                for start in range(0, len(view), _ENCRYPT_BYTES):
                    clear += view[start : start + _ENCRYPT_BYTES]
                    if len(clear) >= _ENCRYPT_BYTES:
                        self._send_encrypted(clear)
                        clear = bytearray()
            if clear:
                self._send_encrypted(clear)

    def _send_encrypted(self, clear: bytearray) -> None:
        try:
            with self._working:
                self._tls.write(clear)
                encrypted = self._outgoing.read()
        except ssl.SSLError as error:
            raise _broken(error) from None
        self._below.send((encrypted,))
        self.sent_bytes += len(clear)

    def send_file(self, header: Buffer, fd: int, file_offset: int, length: int) -> None:  # noqa: ARG002
        raise ChannelError("the kernel cannot encrypt a file on its way")

    def taken_bytes(self) -> int:
        return self.sent_bytes  # encrypting has made copies of all of it

    def stop_receiving(self) -> None:
        self._below.stop_receiving()

    def shut_down(self) -> None:
        self._below.shut_down()

    def close(self) -> None:
        """Say goodbye if the client takes it at once, and close the connection. No other call is under way."""
        try:
            self._tls.unwrap()
        except ssl.SSLError:
            pass  # the client's own end of TLS is not waited for, and after a failure none is sent
        try:
            self._below.socket.setblocking(False)
            self._below.socket.send(self._outgoing.read())
        except OSError:
            pass
        self._below.close()


def _broken(error: ssl.SSLError) -> ChannelError:
    return ChannelError(f"TLS: {(error.reason or str(error)).replace('_', ' ').lower()}")


def server_context(directory: str | os.PathLike[str]) -> ssl.SSLContext:
    """Load a server's certificate from a directory such as QEMU's tls-creds-x509 reads.

    server-cert.pem and server-key.pem must be there. If ca-cert.pem is there, clients need a certificate of that
    CA; ca-crl.pem may then name some that it has revoked. Raises: OSError, RequestError.
    """
    certificate, key, ca, revoked = (
        Path(directory, name) for name in ("server-cert.pem", "server-key.pem", "ca-cert.pem", "ca-crl.pem")
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    # No session is ever resumed here, and a client that only writes would not read the tickets.
    context.num_tickets = 0
    _load_pair(context, certificate, key)
    if _is_there(ca):
        _load_authority(context, ca)
        context.verify_mode = ssl.CERT_REQUIRED
        if _is_there(revoked):
            _load_authority(context, revoked)
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    return context


def _is_there(path: Path) -> bool:
    return (
        path.exists() or path.is_symlink()
    )  # a link to nowhere is a mistake that must be told, not passed over


def _load_pair(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    def refuse_password() -> str:
        raise RequestError(f"{key}: the key is encrypted; take its password away with `openssl pkey`")

    for path in (certificate, key):
        path.open("rb").close()  # OpenSSL does not say which of the two files it cannot read
    try:
        context.load_cert_chain(certificate, key, refuse_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise RequestError(f"{key}: the key does not belong to {certificate.name}") from None
        raise RequestError(f"{certificate}, {key.name}: not a certificate and its key in PEM form") from None


def _load_authority(context: ssl.SSLContext, path: Path) -> None:
    path.open("rb").close()
    try:
        context.load_verify_locations(path)
    except ssl.SSLError:
        raise RequestError(f"{path}: not in PEM form") from None
