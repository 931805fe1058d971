"""What clients can do to a server that they do not mean well with: to themselves anything, to others nothing."""

from __future__ import annotations

import random
import shutil
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from struct import pack

import pytest

import vhdx
from support import nbd_wire as wire
from support.certificates import SERVER_NAME, make_ca, write_server
from support.nbd_client import (
    CACHE,
    DF,
    EINVAL,
    ENOSPC,
    EOVERFLOW,
    EPERM,
    EXTENDED,
    FAST_ZERO,
    FLUSH,
    FUA,
    GUARD_SECONDS,
    NO_HOLE,
    PAYLOAD,
    READ,
    REQ_ONE,
    SIMPLE,
    STATUS,
    STRUCTURED,
    STYLES,
    TRIM,
    WRITE,
    ZEROES,
    Client,
    Reply,
)
from support.nbd_server import Served, serving
from support.units import KIB, MIB, TIB
from vhdx.blockdev.device import DirectDevice
from vhdx.disks.raw import RawDevice
from vhdx.nbd import budget, server
from vhdx.nbd import shared as shared_state
from vhdx.nbd.export import Export
from vhdx.nbd.server import Server, ServerSettings
from vhdx.nbd.server_log import ServerLog
from vhdx.nbd.tls import server_context
from vhdx.storage.file import FileStore

SIZE = 64 * MIB
BLOCK = MIB
WRITTEN = 8 * MIB
"""So much of the disk holds data."""
CHANGING = (WRITE, TRIM, ZEROES)


@pytest.fixture(scope="module")
def content() -> bytes:
    return random.Random(4).randbytes(WRITTEN) + bytes(SIZE - WRITTEN)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> Path:
    path = tmp_path_factory.mktemp("hostile") / "disk.vhdx"
    vhdx.create(path, SIZE, block_size=BLOCK)
    with vhdx.open(path, "r+") as disk:
        disk.pwrite(content[:WRITTEN], 0)
    return path


@pytest.fixture
def image(original: Path, tmp_path: Path) -> Path:
    """A copy, to be changed."""
    return Path(shutil.copy(original, tmp_path))


@pytest.fixture(scope="module")
def shared(original: Path) -> Iterator[Served]:
    with serving(original) as server:
        yield server


@pytest.fixture
def served(shared: Served, content: bytes) -> Iterator[Served]:
    """A server which, after all, still serves whoever comes, and what it did before."""
    yield shared
    with shared.client().go() as client:
        assert client.read(0, WRITTEN) == content[:WRITTEN]
        assert client.read(SIZE - MIB, MIB) == bytes(MIB)
    assert not any("Traceback" in line for line in shared.server.log), shared.server.log


@pytest.fixture
def own(image: Path) -> Iterator[Served]:
    """A server whose disk may be changed."""
    with serving(image) as server:
        yield server


def join(client: Client, style: str) -> Client:
    return client.go(style=style, contexts=() if style == SIMPLE else (b"base:allocation", b"vhdx:depth"))


# Lengths and places


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("flags", [0, DF])
def test_read_that_is_too_large_gets_an_error_and_the_stream_goes_on(
    served: Served, content: bytes, style: str, flags: int
) -> None:
    with join(served.client(), style) as client:
        for length in (32 * MIB + 1, SIZE):
            assert client.ask(READ, 0, length, flags=flags).error in (EOVERFLOW, EINVAL)
        assert client.read(512, 512) == content[512:1024]
        assert client.read(0, 32 * MIB) == content[: 32 * MIB]


@pytest.mark.parametrize("style", STYLES)
def test_write_that_is_too_large_is_passed_over(own: Served, content: bytes, style: str) -> None:
    with join(own.client(), style) as client:
        assert client.write(0, bytes(32 * MIB + 1)).error == EINVAL
        assert client.read(0, 4096) == content[:4096]
        assert client.write(0, bytes(32 * MIB)).error == 0
        assert client.read(0, 4096) == bytes(4096)


@pytest.mark.parametrize("style", STYLES)
def test_write_beyond_all_measure_ends_the_connection(served: Served, style: str) -> None:
    with join(served.client(), style) as client:
        client.send(client.request(WRITE, 0, 0xFFFF_FFFF))
        assert client.is_closed()


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("command", [READ, WRITE, TRIM, CACHE, ZEROES, STATUS])
def test_requests_past_the_end_are_refused(served: Served, content: bytes, style: str, command: int) -> None:
    expected = ENOSPC if command in (WRITE, ZEROES) else EINVAL
    with join(served.client(), style) as client:
        for offset, length in (
            (SIZE - 512, 1024),
            (SIZE, 1),
            (SIZE + 1, 1),
            (1 << 63, 1),
            ((1 << 64) - 1, 1),
            ((1 << 64) - 512, 512),
        ):
            payload = bytes(length) if command == WRITE else b""
            client.send(client.request(command, offset, length, payload=payload))
            assert client.reply().error == expected, (offset, length)
        if style == EXTENDED and command != WRITE:
            assert client.ask(command, 0, (1 << 64) - 1).error in (expected, EOVERFLOW)
            assert client.ask(command, (1 << 64) - 1, (1 << 64) - 1).error in (expected, EOVERFLOW)
        assert client.read(0, SIZE // 2) == content[: SIZE // 2]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("command", range(9))
def test_requests_for_nothing_are_answered(served: Served, style: str, command: int) -> None:
    if command == 2:
        return  # a disconnect
    with join(served.client(), style) as client:
        for offset in (0, 1, SIZE, SIZE + 1):
            client.ask(command, offset, 0)
        client.read(0, 512)


# Commands and flags

ALLOWED = {READ: FUA | DF, WRITE: FUA, FLUSH: FUA, TRIM: FUA, CACHE: FUA}
ALLOWED |= {ZEROES: FUA | NO_HOLE | FAST_ZERO, STATUS: FUA | REQ_ONE}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("command", [READ, WRITE, FLUSH, TRIM, CACHE, ZEROES, STATUS])
def test_unknown_flags_are_refused_and_the_stream_goes_on(
    served: Served, content: bytes, style: str, command: int
) -> None:
    with join(served.client(), style) as client:
        for flag in (1 << bit for bit in range(16)):
            if flag & ALLOWED[command] or (flag == PAYLOAD and style == EXTENDED and command != READ):
                continue
            payload = bytes(512) if command == WRITE or (flag == PAYLOAD and style == EXTENDED) else b""
            length = 0 if command == FLUSH and not payload else 512
            client.send(client.request(command, 0, length, flags=flag, payload=payload))
            assert client.reply().error == EINVAL, flag
        assert client.read(0, 4096) == content[:4096]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("command", [8, 9, 255, 0x8000, 0xFFFF])
def test_unknown_commands_are_refused_and_the_stream_goes_on(
    served: Served, content: bytes, style: str, command: int
) -> None:
    with join(served.client(), style) as client:
        for flags in (0, FUA, 0xFFDF):
            assert client.ask(command, 0, 512, flags=flags).error == EINVAL
        if style == EXTENDED:
            client.send(client.request(command, 0, 512, payload=bytes(512)))
            assert client.reply().error == EINVAL
        assert client.read(0, 4096) == content[:4096]


@pytest.mark.parametrize("command", [READ, FLUSH, TRIM, CACHE, ZEROES, STATUS])
def test_payload_that_a_command_does_not_take_is_passed_over(
    served: Served, content: bytes, command: int
) -> None:
    with served.client().go(style=EXTENDED) as client:
        for length in (1, 512, 100_000):
            client.send(client.request(command, 0, length, payload=b"\xff" * length))
            assert client.reply().error == EINVAL
        assert client.read(0, 4096) == content[:4096]


@pytest.mark.parametrize("style", STYLES)
def test_status_that_was_not_agreed_on_is_refused(served: Served, style: str) -> None:
    with served.client().go(style=style) as client:
        assert client.ask(STATUS, 0, 4096).error == EINVAL
        client.read(0, 4096)


@pytest.mark.parametrize("style", STYLES)
def test_read_only_export_takes_no_changes(image: Path, style: str) -> None:
    before = image.read_bytes()
    with serving("--read-only", image) as served, join(served.client(), style) as client:
        for command in CHANGING:
            for flags in (0, FUA):
                payload = bytes(512) if command == WRITE else b""
                client.send(client.request(command, 0, 512, flags=flags, payload=payload))
                assert client.reply().error == EPERM
        client.ask(FLUSH)
        client.read(0, 4096)
    assert image.read_bytes() == before


# Streams out of step


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("magic", [0, 0x25609514, 0x67446698, 0x47455420])
def test_wrong_magic_ends_the_connection_and_no_other(
    served: Served, content: bytes, style: str, magic: int
) -> None:
    with join(served.client(), style) as other, join(served.client(), style) as client:
        client.read(0, 4096)
        client.send(pack(">I", magic) + client.request(READ, 0, 512)[4:])
        assert client.is_closed()
        assert other.read(0, 4096) == content[:4096]


def test_header_of_the_other_style_ends_the_connection(served: Served) -> None:
    for style, spelled in ((STRUCTURED, EXTENDED), (EXTENDED, STRUCTURED)):
        with served.client().go(style=style) as client:
            client.style = spelled
            client.send(client.request(READ, 0, 512) * 2)
            assert client.is_closed()


def test_nonsense_is_answered_or_ends_the_connection(own: Served) -> None:
    maker = random.Random(11)
    for _ in range(60):
        style = maker.choice(STYLES)
        with join(own.client(), style) as client:
            for _ in range(maker.randrange(1, 40)):
                command = maker.choice(
                    [READ, WRITE, FLUSH, TRIM, CACHE, ZEROES, STATUS, maker.randrange(65536)]
                )
                flags = maker.choice([0, 0, 1 << maker.randrange(16), maker.randrange(65536)])
                offset = maker.choice([0, SIZE - 512, maker.randrange(SIZE), maker.getrandbits(64)])
                length = maker.choice([0, 512, maker.randrange(100_000), maker.getrandbits(32)])
                payload = maker.randbytes(maker.choice([0, 512, length & 0xFFFF]))
                try:
                    client.send(client.request(command, offset, length, flags=flags, payload=payload))
                except OSError:
                    break
            client.socket.shutdown(socket.SHUT_WR)
            assert client.is_closed()


def test_nonsense_in_the_handshake_is_answered_or_ends_the_connection(served: Served) -> None:
    maker = random.Random(12)
    for _ in range(60):
        with served.client() as client:
            for _ in range(maker.randrange(1, 20)):
                payload = maker.randbytes(maker.randrange(40))
                length = maker.choice([None, None, None, maker.randrange(200_000), maker.getrandbits(32)])
                message = wire.option(maker.randrange(14), payload, length)
                try:
                    client.send(message if maker.random() < 0.95 else payload)
                except OSError:
                    break
            client.socket.shutdown(socket.SHUT_WR)
            assert client.is_closed()


def test_option_that_is_too_big_is_refused_before_its_payload_is_kept(served: Served) -> None:
    with served.client() as client:
        before = served.memory()
        for _ in range(20):
            assert client.option(wire.LIST, bytes(MIB))[-1].kind == wire.TOO_BIG
        assert served.memory() - before < 2 * MIB
        assert [reply.kind for reply in client.option(wire.LIST)] == [wire.SERVER, wire.ACK]
        client.send(wire.option(wire.LIST, b"", MIB + 1))
        assert client.is_closed()


def test_export_that_does_not_exist_is_unknown(served: Served) -> None:
    with served.client() as client:
        assert client.option(wire.GO, wire.info_payload(b"../disk"))[-1].kind == wire.UNKNOWN
        client.send(wire.option(wire.EXPORT_NAME, b"nothing"))
        assert client.is_closed()


# Half-sent writes


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("offset", [0, 4096, WRITTEN, SIZE - 3 * MIB])
@pytest.mark.parametrize(("length", "sent"), [(4096, 4095), (65536, 1), (3 * MIB, 2 * MIB), (512, 0)])
def test_write_that_was_sent_by_half_changes_nothing(
    served: Served, content: bytes, style: str, offset: int, length: int, sent: int
) -> None:
    with join(served.client(), style) as client:
        whole = client.request(WRITE, offset, length, payload=b"\xff" * length)
        client.send(whole[: len(whole) - length + sent])
        client.socket.shutdown(socket.SHUT_WR)
        assert client.is_closed()
    with join(served.client(), style) as client:
        assert client.read(offset, length) == content[offset : offset + length]


# Memory


def flood(client: Client, data: bytes) -> threading.Thread:
    """Send without end of patience, in the background, until the connection is closed."""

    def run() -> None:
        try:
            client.send(data)
        except OSError:
            pass

    client.socket.settimeout(None)
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def settle(measure: Callable[[], int]) -> int:
    """Measure until the figure stops growing."""
    figures = [measure()]
    while len(figures) < 5 or figures[-1] > figures[-5]:
        time.sleep(0.1)
        figures.append(measure())
    return figures[-1]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(
    ("command", "length"), [(READ, 4096), (READ, 200_000), (FLUSH, 0), (STATUS, SIZE), (READ, 0)]
)
def test_replies_that_nobody_reads_do_not_grow_memory(
    served: Served, style: str, command: int, length: int
) -> None:
    with join(served.client(), style) as client, join(served.client(), style) as other:
        other.read(0, 4096)
        before = served.memory()
        requests = [client.request(command, 0, length, cookie=cookie) for cookie in range(20_000)]
        sending = flood(client, b"".join(requests))
        assert settle(served.memory) - before < 24 * MIB
        other.read(0, 4096)
        if length <= 4096:
            assert {client.reply().cookie for _ in requests} == set(range(20_000))
            sending.join(GUARD_SECONDS)
            assert not sending.is_alive()


def test_payloads_of_many_clients_are_bounded_together(own: Served) -> None:
    payload = bytes(32 * MIB - 1)
    with ExitStack() as stack:
        clients = [stack.enter_context(own.client().go()) for _ in range(16)]
        floods = [
            flood(client, client.request(WRITE, 0, 32 * MIB, payload=payload, flags=FUA))
            for client in clients
        ]
        assert settle(own.memory) < (256 + 100) * MIB
        for client in clients:
            client.socket.shutdown(socket.SHUT_RDWR)
        for each in floods:
            each.join(GUARD_SECONDS)


# Long requests


@pytest.mark.parametrize("command", [TRIM, ZEROES, CACHE, STATUS])
def test_request_for_all_of_a_huge_disk_lets_others_pass(tmp_path: Path, command: int) -> None:
    path = tmp_path / "huge.vhdx"
    vhdx.create(path, 64 * TIB, block_size=256 * MIB)
    with serving(path) as served, join(served.client(), EXTENDED) as client:
        for cookie in range(2, 5):
            client.send(client.request(command, 0, 64 * TIB, cookie=cookie))
        with join(served.client(), EXTENDED) as other:
            other.read(TIB, 4096)
        client.send(client.request(READ, 0, 4096, cookie=1))
        replies = {reply.cookie: reply for reply in (client.reply() for _ in range(4))}
        assert [reply.error for reply in replies.values()] == [0] * 4


# Connections


class InProcess:
    """A server in this process, so that its patience can be shortened."""

    def __init__(
        self, open_device: Callable[[], DirectDevice], address: Path, settings: ServerSettings
    ) -> None:
        self.lines: list[str] = []
        self.address = address
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(address))
        listener.listen(256)
        self.server = Server(
            [listener], {"": Export("", open_device)}, ServerLog(self.lines.append), settings
        )
        self.thread = threading.Thread(target=self.server.serve)

    def client(self) -> Client:
        return Client(self.address).greet()

    def stop(self) -> None:
        self.server.stop()
        self.thread.join(GUARD_SECONDS)
        assert not self.thread.is_alive()


@contextmanager
def running(
    image: Path | Callable[[], DirectDevice], max_connections: int = 512, tls: ssl.SSLContext | None = None
) -> Iterator[InProcess]:
    settings = ServerSettings(default_export="", tls=tls, persistent=True, max_connections=max_connections)
    open_device = (lambda: vhdx.open(image, "r+")) if isinstance(image, Path) else image
    with tempfile.TemporaryDirectory(prefix="vhdx-") as directory:  # pytest's paths are too long for a socket
        served = InProcess(open_device, Path(directory, "s"), settings)
        served.thread.start()
        try:
            yield served
        finally:
            served.stop()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HANDSHAKE_SECONDS", 0.5)


def dribble(client: Client, message: bytes, stop: threading.Event) -> int:
    """Send the same thing again and again, reading nothing, until the server has had enough; say how often."""
    count = 0
    try:
        while not stop.is_set():
            client.send(message)
            count += 1
            time.sleep(0.05)
    except OSError:
        pass
    return count


@pytest.mark.parametrize(
    "message",
    [
        b"",
        wire.option(99),
        wire.option(wire.INFO, wire.info_payload(b"")),
        wire.option(wire.LIST, b"", MIB)[:17],
        wire.option(wire.LIST) * 50,
    ],
)
@pytest.mark.usefixtures("impatient")
def test_handshake_that_does_not_come_to_an_end_is_ended(image: Path, message: bytes) -> None:
    stop = threading.Event()
    with running(image) as served, served.client() as client, ThreadPoolExecutor(1) as pool:
        dribbling = pool.submit(dribble, client, message, stop)
        try:
            if message:
                assert dribbling.result(GUARD_SECONDS) < 100  # nothing that it says earns it more time
            assert client.is_closed()
        finally:
            stop.set()
        assert any("no handshake in time" in line for line in served.lines)


@pytest.mark.usefixtures("impatient")
def test_client_without_a_greeting_is_turned_out(image: Path) -> None:
    with running(image) as served, Client(served.address) as client:
        assert client.is_closed()


@pytest.mark.usefixtures("impatient")
def test_idle_connection_in_transmission_is_kept(image: Path, content: bytes) -> None:
    with running(image, max_connections=2) as served, served.client().go() as idle:
        for _ in range(4):
            with served.client() as late:
                assert late.is_closed()
        assert idle.read(0, 4096) == content[:4096]
        half = idle.request(READ, 0, 512)
        idle.send(half[:10])
        with served.client() as late:
            assert late.is_closed()
        idle.send(half[10:])
        assert idle.reply().data == content[:512]


def test_connections_are_limited_and_those_in_transmission_stay(image: Path) -> None:
    with running(image, max_connections=3) as served, ExitStack() as stack:
        inside = [stack.enter_context(served.client().go()) for _ in range(3)]
        for _ in range(3):
            with Client(served.address) as outside:
                assert outside.is_closed()
        for client in inside:
            client.read(0, 4096)
        inside[0].disconnect()
        stack.enter_context(_eventually(served)).read(0, 4096)


def _eventually(served: InProcess) -> Client:
    """Come in as soon as there is room."""
    for _ in range(200):
        client = Client(served.address)
        try:
            return client.greet().go()
        except (OSError, EOFError):
            client.close()
            time.sleep(0.05)
    raise AssertionError("there is never room")


def test_unfinished_handshake_makes_room_for_a_new_client(image: Path) -> None:
    with running(image, max_connections=2) as served, ExitStack() as stack:
        inside = stack.enter_context(served.client().go())
        lingering = stack.enter_context(served.client())
        new = stack.enter_context(served.client().go())
        assert lingering.is_closed()
        for client in (inside, new):
            client.read(0, 4096)


def test_two_hundred_idle_clients_keep_no_new_one_out(image: Path) -> None:
    with running(image) as served, ExitStack() as stack:
        inside = stack.enter_context(served.client().go())
        for _ in range(200):
            stack.enter_context(Client(served.address))
        began = time.monotonic()
        new = stack.enter_context(served.client().go())
        new.read(0, 4096)
        print(f"the new client waited {time.monotonic() - began:.3f} s")
        inside.read(0, 4096)


# Clients of a server that requires TLS


@pytest.mark.parametrize(
    "messages",
    [
        [wire.option(wire.STARTTLS)],
        [wire.option(wire.STARTTLS), b"\x16"],
        [wire.option(wire.STARTTLS), b"no TLS at all"],
        [wire.option(wire.STARTTLS), wire.option(wire.STARTTLS)],
        [wire.option(wire.STARTTLS) + wire.option(wire.LIST)],
        [wire.option(wire.EXPORT_NAME)],
    ],
)
@pytest.mark.usefixtures("impatient")
def test_client_that_does_not_come_to_speak_tls_is_turned_out(
    image: Path, tmp_path: Path, messages: list[bytes]
) -> None:
    ca = make_ca()
    trusting = ssl.create_default_context()
    ca.configure_trust(trusting)
    tls = server_context(write_server(tmp_path / "certificates", ca))
    with running(image, tls=tls) as served:
        with served.client() as client:
            assert client.option(wire.GO, wire.info_payload(b""))[-1].kind == wire.TLS_REQD
            client.send(messages[0])
            if messages[1:]:
                assert client.option_replies()[-1].kind == wire.ACK
                client.send(messages[1])
            assert client.is_closed()
        with served.client().start_tls(trusting, SERVER_NAME).go() as other:
            other.read(0, 4096)


# Clients that sit on memory which others need


@pytest.fixture
def scarce(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory for one large payload, and little patience with who holds it."""
    monkeypatch.setattr(shared_state, "Budget", lambda: budget.Budget(40 * MIB))
    monkeypatch.setattr(budget, "PATIENCE_SECONDS", 0.5)


def write_in_the_end(client: Client) -> Reply:
    """Write with 32 MiB of payload into blocks that are not there yet."""
    return client.write(32 * MIB, bytes(32 * MIB))


@pytest.mark.usefixtures("scarce")
def test_write_that_dribbles_in_does_not_keep_others_out_for_ever(image: Path) -> None:
    stop = threading.Event()
    with running(image) as served, served.client().go() as slow, served.client().go() as other:
        slow.send(slow.request(WRITE, 32 * MIB, 32 * MIB))
        with ThreadPoolExecutor(1) as pool:
            dribbling = pool.submit(dribble, slow, b"x", stop)
            try:
                assert write_in_the_end(other).error == 0
            finally:
                stop.set()
            dribbling.result(GUARD_SECONDS)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.usefixtures("scarce")
def test_reader_that_does_not_read_does_not_keep_others_out_for_ever(image: Path, style: str) -> None:
    with (
        running(image) as served,
        join(served.client(), style) as deaf,
        served.client().go() as other,
    ):
        for cookie in range(40):
            deaf.send(deaf.request(READ, 0, 32 * MIB, cookie=cookie, flags=DF if style != SIMPLE else 0))
        assert write_in_the_end(other).error == 0


@pytest.mark.parametrize("length", [4096, 32 * KIB])
def test_client_that_takes_no_answers_but_holds_nothing_up_is_kept(image: Path, length: int) -> None:
    """One that takes nothing of what it asked for, but that holds nothing others need, is kept."""
    with running(image) as served, served.client().go() as deaf, served.client().go() as other:
        deaf.send(b"".join(deaf.request(READ, 0, length, cookie=cookie) for cookie in range(200)))
        assert write_in_the_end(other).error == 0
        assert {deaf.reply().cookie for _ in range(200)} == set(range(200))


# The end of the server


class Endless(RawDevice):
    """A disk of a terabyte that is zeroed slowly, and that stays empty."""

    def __init__(self, path: Path) -> None:
        super().__init__(FileStore.open(path, writable=True), writable=True)
        self.steps = 0
        self.began = threading.Event()

    def write_zeroes(
        self, length: int, offset: int, *, may_unmap: bool = True, fua: bool = False, fast_only: bool = False
    ) -> None:
        self.steps += 1
        self.began.set()
        time.sleep(0.1)


def test_server_stops_in_the_middle_of_a_request_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "STOP_SECONDS", 0.2)
    path = tmp_path / "endless.raw"
    with path.open("wb") as file:
        file.truncate(TIB)
    device = Endless(path)
    with running(lambda: device) as served, served.client().go(style=EXTENDED) as client:
        for cookie in range(8):
            client.send(client.request(ZEROES, 0, TIB, flags=NO_HOLE, cookie=cookie))
        assert device.began.wait(GUARD_SECONDS)
        served.server.stop()
        assert client.is_closed()
    assert device.steps < 8 * 1024
