"""What one client asks for at the same time and the server does in one go: overwrites, flushes."""

from __future__ import annotations

import errno
import random
import socket
import struct
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

import vhdx
from support.units import MIB
from vhdx.disks.raw import RawDevice
from vhdx.nbd.channel import SocketChannel
from vhdx.nbd.connection import Connection
from vhdx.nbd.protocol.constants import Command, CommandFlag, NbdError
from vhdx.nbd.protocol.events import Agreement
from vhdx.nbd.server_log import ServerLog
from vhdx.nbd.shared import Shared

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from vhdx.blockdev.device import DirectDevice, Place

SIZE = 8 * MIB
HANG_SECONDS = 30


class Client:
    """Sends requests as they stand, and collects simple replies without data."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected

    def send(self, *messages: bytes) -> None:
        self._socket.sendall(b"".join(messages))

    def answers(self, count: int) -> dict[int, int]:
        """So many replies: the error of each cookie."""
        found = {}
        with self._socket.makefile("rb") as stream:
            for _ in range(count):
                _, error, cookie = struct.unpack(">IIQ", stream.read(16))
                assert cookie not in found
                found[cookie] = error
        return found


def message(command: int, cookie: int, offset: int = 0, data: bytes = b"", flags: int = 0) -> bytes:
    return struct.pack(">IHHQQI", 0x25609513, flags, command, cookie, offset, len(data)) + data


@contextmanager
def client_of(device: DirectDevice) -> Iterator[Client]:
    """A client in transmission with a server of its own."""
    ours, theirs = socket.socketpair()
    ours.settimeout(HANG_SECONDS)
    channel = SocketChannel(theirs, "test")
    agreement = Agreement("", structured=False, extended=False, contexts=())
    connection = Connection(channel, device, agreement, b"", Shared(ServerLog(lambda _: None)))
    thread = threading.Thread(target=connection.run, daemon=True)
    thread.start()
    try:
        yield Client(ours)
    finally:
        ours.sendall(message(Command.DISC, 0))
        thread.join(HANG_SECONDS)
        channel.close()
        ours.close()
    assert not thread.is_alive()


@pytest.fixture
def image(tmp_path: Path) -> Iterator[vhdx.Disk]:
    """Blocks of 1 MiB, every second one allocated, the session begun."""
    path = tmp_path / "disk.vhdx"
    vhdx.create(path, size=SIZE, block_size=MIB)
    with vhdx.open(path, "r+") as disk:
        for offset in range(0, SIZE, 2 * MIB):
            disk.pwrite(b"before", offset)
        yield disk


def random_writes(seed: int, count: int) -> Iterator[tuple[int, bytes]]:
    """Writes that do not touch each other, of 1 byte to 1.5 MiB, some across blocks."""
    chance = random.Random(seed)
    cuts = sorted(chance.sample(range(SIZE), 2 * count))
    pieces = [
        (start, chance.randbytes(min(end - start, MIB * 3 // 2)))
        for start, end in zip(cuts[::2], cuts[1::2], strict=True)
    ]
    chance.shuffle(pieces)
    yield from pieces


def differences(image: vhdx.Disk, expected: bytearray) -> list[int]:
    """Offsets of the 4 KiB pages whose content is another one."""
    found = image.pread(SIZE, 0)
    return [at for at in range(0, SIZE, 4096) if found[at : at + 4096] != expected[at : at + 4096]]


@pytest.mark.parametrize("seed", range(6))
def test_writes_sent_together_are_all_there(image: vhdx.Disk, seed: int) -> None:
    expected = bytearray(image.pread(SIZE, 0))
    chance = random.Random(seed)
    messages = []
    for cookie, (offset, data) in enumerate(random_writes(seed, 60)):
        expected[offset : offset + len(data)] = data
        flags = CommandFlag.FUA if chance.random() < 0.1 else 0
        messages.append(message(Command.WRITE, cookie, offset, data, flags))
    with client_of(image) as client:
        client.send(*messages)
        assert client.answers(60) == dict.fromkeys(range(60), 0)
    assert differences(image, expected) == []


class Displaced:
    """A device whose overwrites turn out to have no place, as if another client had trimmed them meanwhile."""

    def __init__(self, device: DirectDevice) -> None:
        self._device = device

    def __getattr__(self, name: str) -> object:
        return getattr(self._device, name)

    def writes_in_place(self, _offset: int, _length: int) -> bool:
        return True

    def place(self, offset: int, _length: int) -> Place | None:
        if offset % 3:
            raise OSError(errno.EIO, "no place")
        return None


def test_writes_whose_place_is_gone_are_done_all_the_same(image: vhdx.Disk) -> None:
    expected = bytearray(image.pread(SIZE, 0))
    messages = []
    for cookie, (offset, data) in enumerate(random_writes(9, 40)):
        expected[offset : offset + len(data)] = data
        messages.append(message(Command.WRITE, cookie, offset, data))
    with client_of(Displaced(image)) as client:  # type: ignore[arg-type]
        client.send(*messages)
        assert client.answers(40) == dict.fromkeys(range(40), 0)
    assert differences(image, expected) == []


class Flushed:
    """A device that counts flushes, and may fail them."""

    def __init__(self, device: DirectDevice, failure: OSError | None = None) -> None:
        self._device = device
        self._failure = failure
        self.count = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._device, name)

    def flush(self) -> None:
        self.count += 1
        if self._failure is not None:
            raise self._failure


@pytest.mark.parametrize(
    ("failure", "error"), [(None, 0), (OSError(errno.ENOSPC, "full"), NbdError.ENOSPC)], ids=["sound", "full"]
)
def test_every_flush_is_answered_with_what_became_of_it(
    tmp_path: Path, failure: OSError | None, error: int
) -> None:
    path = tmp_path / "disk.raw"
    path.write_bytes(bytes(MIB))
    with RawDevice.open(path) as raw:
        device = Flushed(raw, failure)
        with client_of(device) as client:  # type: ignore[arg-type]
            client.send(*(message(Command.FLUSH, cookie) for cookie in range(300)))
            assert client.answers(300) == dict.fromkeys(range(300), error)
    assert 1 <= device.count <= 300
