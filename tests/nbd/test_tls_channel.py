"""TLS on a socket pair, with Python's own TLS client on the other side."""

import random
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme

from support.certificates import SERVER_NAME, make_ca, write_client, write_revocation, write_server
from support.units import MIB
from vhdx.errors import RequestError
from vhdx.nbd.channel import ChannelError, SocketChannel
from vhdx.nbd.tls import TlsChannel, server_context

HANG = 60
"""Seconds after which a test has hung."""


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return make_ca()


@pytest.fixture
def server(tmp_path: Path, ca: trustme.CA) -> Path:
    return write_server(tmp_path / "server", ca)


class Pair:
    """A server's channel and the plain socket of its client."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        here, self.raw = socket.socketpair()
        self.raw.settimeout(HANG)
        self.below = SocketChannel(here, "a test")
        self.channel = TlsChannel(self.below, server_context(directory))
        stack.callback(self.raw.close)
        stack.callback(here.close)
        stack.callback(self.below.shut_down)
        self._stack = stack

    def connect(self, client: ssl.SSLContext) -> ssl.SSLSocket:
        with ThreadPoolExecutor(1) as pool:
            shaking = pool.submit(self._shake)
            try:
                client_side = client.wrap_socket(
                    self.raw, server_hostname=SERVER_NAME, suppress_ragged_eofs=False
                )
                self._stack.enter_context(client_side)
            finally:
                shaking.result(HANG)
        return client_side

    def _shake(self) -> None:
        try:
            self.channel.handshake(time.monotonic() + HANG)
        except ChannelError:
            self.channel.close()  # only this tells the client
            raise


@pytest.fixture
def pair(server: Path) -> Iterator[Pair]:
    with ExitStack() as stack:
        yield Pair(server, stack)


def client_context(ca: trustme.CA, directory: Path | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    ca.configure_trust(context)
    if directory is not None:
        context.load_cert_chain(directory / "client-cert.pem", directory / "client-key.pem")
    return context


def receive(channel: TlsChannel, count: int) -> bytes:
    buffer = bytearray(count)
    view = memoryview(buffer)
    while view:
        got = channel.receive_into(view)
        assert got, "the end came early"
        view = view[got:]
    return bytes(buffer)


def receive_all(client: ssl.SSLSocket, count: int) -> bytes:
    pieces = []
    while count:
        piece = client.recv(min(count, MIB))
        assert piece, "the end came early"
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_bytes_cross_in_both_directions(pair: Pair, ca: trustme.CA, version: ssl.TLSVersion) -> None:
    context = client_context(ca)
    context.maximum_version = version
    client = pair.connect(context)
    assert client.version() == version.name.replace("_", ".")
    client.sendall(b"request")
    assert receive(pair.channel, 7) == b"request"
    pair.channel.send([b"rep", memoryview(b"l"), bytearray(b""), b"y"])
    assert receive_all(client, 5) == b"reply"
    assert pair.channel.sent_bytes == pair.channel.taken_bytes() == 5


def test_old_tls_is_refused(pair: Pair, ca: trustme.CA) -> None:
    context = client_context(ca)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ChannelError, match="TLS: unsupported protocol"):
        pair.connect(context)


def test_large_and_small_parts_arrive_in_order(pair: Pair, ca: trustme.CA) -> None:
    client = pair.connect(client_context(ca))
    maker = random.Random(1)
    parts = [maker.randbytes(size) for size in (3 * MIB + 5, 16, 0, 131072, 20, 131071, 1)]
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(pair.channel.send, parts)
        assert receive_all(client, sum(map(len, parts))) == b"".join(parts)
        sending.result(HANG)


def test_one_thread_reads_while_others_write(pair: Pair, ca: trustme.CA) -> None:
    client = pair.connect(client_context(ca))
    maker = random.Random(2)
    upward = maker.randbytes(12 * MIB)
    messages = [maker.randbytes(maker.choice([16, 4096, 300_000])) for _ in range(120)]

    def send_every_third(first: int) -> None:
        for message in messages[first::3]:
            pair.channel.send([len(message).to_bytes(4, "big"), message])

    def read_messages() -> list[bytes]:
        return [
            receive_all(client, int.from_bytes(receive_all(client, 4), "big")) for _ in range(len(messages))
        ]

    # The client writes and reads in turns by one thread: if reading waited for writing here, both would hang.
    def talk() -> list[bytes]:
        client.sendall(upward)
        return read_messages()

    with ThreadPoolExecutor(5) as pool:
        senders = [pool.submit(send_every_third, first) for first in range(3)]
        talking = pool.submit(talk)
        assert receive(pair.channel, len(upward)) == upward
        assert sorted(talking.result(HANG)) == sorted(messages)
        for sender in senders:
            sender.result(HANG)


def test_wait_tells_of_bytes_that_were_decrypted_already(pair: Pair, ca: trustme.CA) -> None:
    client = pair.connect(client_context(ca))
    assert not pair.channel.wait(0)
    client.sendall(b"first")
    assert pair.channel.wait(HANG)
    assert receive(pair.channel, 2) == b"fi"
    assert pair.channel.wait(0)
    assert receive(pair.channel, 3) == b"rst"
    assert not pair.channel.wait(0)
    client.sendall(b"1" * 30_000)
    assert receive(pair.channel, 1) == b"1"
    assert pair.channel.wait(HANG)
    assert receive(pair.channel, 29_999) == b"1" * 29_999


def test_wait_is_not_fooled_by_a_part_of_a_record(server: Path, ca: trustme.CA) -> None:
    with ExitStack() as stack:
        pair = Pair(server, stack)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = client_context(ca).wrap_bio(incoming, outgoing, server_hostname=SERVER_NAME)
        with ThreadPoolExecutor(1) as pool:
            shaking = pool.submit(pair.channel.handshake, time.monotonic() + HANG)
            while True:
                try:
                    client.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    pair.raw.sendall(outgoing.read())
                    incoming.write(pair.raw.recv(65536))
            pair.raw.sendall(outgoing.read())
            shaking.result(HANG)
        client.write(b"whole")
        record = outgoing.read()
        pair.raw.sendall(record[:-1])
        assert not pair.channel.wait(0.05)
        pair.raw.sendall(record[-1:])
        assert pair.channel.wait(HANG)
        assert receive(pair.channel, 5) == b"whole"


@pytest.mark.parametrize("politely", [True, False])
def test_end_of_the_client_is_the_end_of_the_stream(pair: Pair, ca: trustme.CA, politely: bool) -> None:
    client = pair.connect(client_context(ca))
    client.sendall(b"last words")
    if politely:
        with pytest.raises(ssl.SSLWantReadError), client:
            client.setblocking(False)
            client.unwrap()
    else:
        client.shutdown(socket.SHUT_WR)
    buffer = memoryview(bytearray(100))
    assert pair.channel.receive_into(buffer) == 10
    assert pair.channel.wait(HANG)
    assert pair.channel.receive_into(buffer) == 0
    assert pair.channel.receive_into(buffer) == 0


def test_close_says_goodbye(pair: Pair, ca: trustme.CA) -> None:
    client = pair.connect(client_context(ca))
    pair.channel.send([b"done"])
    pair.channel.close()
    assert receive_all(client, 4) == b"done"
    assert client.recv(1) == b""  # raises SSLEOFError if the goodbye is missing


def test_close_does_not_wait_for_a_client_that_reads_nothing(pair: Pair, ca: trustme.CA) -> None:
    pair.connect(client_context(ca))
    below = pair.below.socket
    below.setblocking(False)
    with pytest.raises(BlockingIOError):
        while True:
            below.send(bytes(65536))
    below.setblocking(True)
    with ThreadPoolExecutor(1) as pool:
        try:
            pool.submit(pair.channel.close).result(HANG)
        finally:
            pair.raw.close()


def test_shut_down_ends_a_send_that_nobody_reads(pair: Pair, ca: trustme.CA) -> None:
    client = pair.connect(client_context(ca))
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(pair.channel.send, [bytes(64 * MIB)])
        client.recv(1)
        pair.channel.shut_down()
        with pytest.raises(ChannelError):
            sending.result(HANG)


def test_garbage_in_the_stream_fails_the_connection(pair: Pair, ca: trustme.CA) -> None:
    client = pair.connect(client_context(ca))
    client.sendall(b"good")
    raw = socket.socket(fileno=client.detach())
    raw.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
    with raw:
        assert receive(pair.channel, 4) == b"good"
        with pytest.raises(ChannelError, match=r"TLS: (decryption failed|record layer failure)"):
            pair.channel.receive_into(memoryview(bytearray(10)))
        pair.channel.close()


def test_tampered_record_fails_the_wait_too(pair: Pair, ca: trustme.CA) -> None:
    client = pair.connect(client_context(ca))
    with socket.socket(fileno=client.detach()) as raw:
        raw.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
        with pytest.raises(ChannelError, match=r"TLS: (decryption failed|record layer failure)"):
            pair.channel.wait(HANG)


def test_stop_of_receiving_ends_the_stream_and_not_the_replies(pair: Pair, ca: trustme.CA) -> None:
    client = pair.connect(client_context(ca))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(pair.channel.receive_into, memoryview(bytearray(10)))
        pair.channel.stop_receiving()
        assert waiting.result(HANG) == 0
    pair.channel.send([b"still"])
    assert receive_all(client, 5) == b"still"


# The TLS handshake


def test_client_that_does_not_speak_tls_fails(pair: Pair) -> None:
    pair.raw.sendall(b"IHAVEOPT" + bytes(100))
    with pytest.raises(ChannelError, match="TLS: "):
        pair.channel.handshake(time.monotonic() + HANG)
    pair.channel.close()


def test_client_that_leaves_in_the_handshake_fails(pair: Pair) -> None:
    pair.raw.sendall(b"\x16\x03\x01")
    pair.raw.shutdown(socket.SHUT_WR)
    with pytest.raises(ChannelError, match="TLS: "):
        pair.channel.handshake(time.monotonic() + HANG)


def test_client_that_dawdles_fails(pair: Pair) -> None:
    stop = threading.Event()

    def dribble() -> None:
        pair.raw.sendall(b"\x16\x03\x01\x40\x00")
        while not stop.wait(0.01):
            pair.raw.sendall(b"\0")

    with ThreadPoolExecutor(1) as pool:
        dribbling = pool.submit(dribble)
        try:
            with pytest.raises(ChannelError, match="TLS: the handshake took too long"):
                pair.channel.handshake(time.monotonic() + 0.3)
        finally:
            stop.set()
        dribbling.result(HANG)


def test_client_that_does_not_trust_us_is_told_about(pair: Pair) -> None:
    with pytest.raises(ChannelError, match="TLS: tlsv1 alert unknown ca"):
        pair.connect(ssl.create_default_context())


@pytest.fixture
def strict(tmp_path: Path, ca: trustme.CA) -> Path:
    return write_server(tmp_path / "strict", ca, clients_of=ca)


def serve(directory: Path, context: ssl.SSLContext) -> None:
    """Connect, and have the server's first words read (a refusal comes behind the client's handshake)."""
    with ExitStack() as stack:
        pair = Pair(directory, stack)
        client = pair.connect(context)
        pair.channel.send([b"hello"])
        assert receive_all(client, 5) == b"hello"


def test_client_with_a_certificate_of_the_ca_is_served(strict: Path, tmp_path: Path, ca: trustme.CA) -> None:
    serve(strict, client_context(ca, write_client(tmp_path / "good", ca, issued_by=ca)))


def test_client_without_a_certificate_is_refused(strict: Path, ca: trustme.CA) -> None:
    with pytest.raises(ChannelError, match="TLS: peer did not return a certificate"):
        serve(strict, client_context(ca))


def test_client_of_another_ca_is_refused(strict: Path, tmp_path: Path, ca: trustme.CA) -> None:
    with pytest.raises(ChannelError, match="TLS: certificate verify failed"):
        serve(strict, client_context(ca, write_client(tmp_path / "bad", ca, issued_by=make_ca())))


def test_client_whose_certificate_has_expired_is_refused(
    strict: Path, tmp_path: Path, ca: trustme.CA
) -> None:
    client = write_client(tmp_path / "late", ca, issued_by=ca, expired=True)
    with pytest.raises(ChannelError, match="TLS: certificate verify failed"):
        serve(strict, client_context(ca, client))


def test_client_whose_certificate_is_revoked_is_refused(strict: Path, tmp_path: Path, ca: trustme.CA) -> None:
    revoked = write_client(tmp_path / "revoked", ca, issued_by=ca)
    write_revocation(strict, ca, revoked)
    with pytest.raises(ChannelError, match="TLS: certificate verify failed"):
        serve(strict, client_context(ca, revoked))
    serve(strict, client_context(ca, write_client(tmp_path / "other", ca, issued_by=ca)))


def test_refused_client_is_told_why_when_the_channel_is_closed(strict: Path, ca: trustme.CA) -> None:
    with ExitStack() as stack:
        pair = Pair(strict, stack)
        context = client_context(ca)
        context.maximum_version = (
            ssl.TLSVersion.TLSv1_2
        )  # where the client's handshake waits for the server's
        with pytest.raises(ChannelError) as caught:
            pair.connect(context)
        assert isinstance(caught.value.__context__, ssl.SSLError)
        assert "alert" in str(caught.value.__context__)


# The directory


@pytest.mark.parametrize("name", ["server-cert.pem", "server-key.pem"])
def test_missing_file_is_named(server: Path, name: str) -> None:
    (server / name).unlink()
    with pytest.raises(FileNotFoundError) as caught:
        server_context(server)
    assert caught.value.filename is not None
    assert str(server / name) in str(caught.value)


@pytest.mark.parametrize("name", ["server-cert.pem", "server-key.pem"])
@pytest.mark.parametrize("content", [b"", b"junk", bytes(range(256))])
def test_file_that_is_no_pem_is_named(server: Path, name: str, content: bytes) -> None:
    (server / name).write_bytes(content)
    with pytest.raises(RequestError, match="not a certificate and its key in PEM form") as caught:
        server_context(server)
    assert name in str(caught.value)


def test_key_of_another_certificate_is_refused(server: Path, ca: trustme.CA) -> None:
    ca.issue_cert("other").private_key_pem.write_to_path(server / "server-key.pem")
    with pytest.raises(RequestError, match=r"server-key\.pem: the key does not belong to server-cert\.pem"):
        server_context(server)


def test_encrypted_key_is_refused_without_asking_for_its_password(server: Path) -> None:
    key = server / "server-key.pem"
    encrypted = subprocess.run(
        ["openssl", "pkey", "-in", key, "-aes128", "-passout", "pass:secret"],
        check=True,
        capture_output=True,
    )
    key.write_bytes(encrypted.stdout)
    with pytest.raises(RequestError, match="the key is encrypted"):
        server_context(server)


def test_authority_that_is_no_pem_is_refused(server: Path) -> None:
    (server / "ca-cert.pem").write_text("junk")
    with pytest.raises(RequestError, match=r"ca-cert\.pem: not in PEM form"):
        server_context(server)


def test_authority_that_links_to_nowhere_is_not_taken_for_none(server: Path) -> None:
    (server / "ca-cert.pem").symlink_to(server / "nowhere")
    with pytest.raises(FileNotFoundError, match="ca-cert"):
        server_context(server)
