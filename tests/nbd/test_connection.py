"""One client's requests, as it sees them answered."""

from __future__ import annotations

import errno
import os
import random
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.nbd_connection import (
    DF,
    DISC,
    FAST_ZERO,
    FLUSH,
    FUA,
    GUARD_SECONDS,
    NO_HOLE,
    READ,
    REQ_ONE,
    SIMPLE,
    STATUS,
    TRIM,
    WRITE,
    ZEROES,
    Puppet,
    session,
)
from support.units import MIB
from vhdx import _host
from vhdx.disks.raw import RawDevice
from vhdx.errors import CorruptImageError, ImagePoisonedError
from vhdx.findings import Finding
from vhdx.nbd.budget import Budget
from vhdx.nbd.protocol.transmission import MAX_PAYLOAD
from vhdx.rules import RuleCode

SIZE = 40 * MIB
EPERM, EIO, EINVAL, ENOSPC, EOVERFLOW, ENOTSUP = 1, 5, 22, 28, 75, 95


@pytest.fixture
def content() -> bytes:
    return random.Random(5).randbytes(SIZE)


@pytest.fixture
def device(tmp_path: Path, content: bytes) -> Iterator[Puppet]:
    puppet = Puppet.make(tmp_path / "disk.raw", content)
    yield puppet
    puppet.close()


@pytest.mark.parametrize("places", [True, False])
@pytest.mark.parametrize("flags", [0, DF])
def test_reads_of_every_size_give_the_disks_bytes(
    device: Puppet, content: bytes, places: bool, flags: int
) -> None:
    device.places = places
    with session(device) as s:
        for length in (1, 511, 512, 4096, 32768, 32769, 65536, MIB, MIB + 1, 5 * MIB + 3, MAX_PAYLOAD):
            for offset in (0, 777, SIZE - length):
                reply = s.talk.read(offset, length, flags)
                assert reply.error == 0
                assert reply.data == content[offset : offset + length]
                if flags == DF:
                    assert reply.chunks == 1


def test_many_reads_at_once_are_all_answered(device: Puppet, content: bytes) -> None:
    rng = random.Random(1)
    with session(device) as s:
        asked = {
            cookie: (rng.randrange(SIZE - MIB), rng.choice((512, 4096, 65536, 300_000)))
            for cookie in range(500)
        }
        for cookie, (offset, length) in list(asked.items()):
            s.talk.ask(READ, offset, length, cookie=cookie)
            if cookie % 50 == 49:
                for _ in range(50):
                    reply = s.talk.answer()
                    offset, length = asked.pop(reply.cookie)
                    assert reply.data == content[offset : offset + length]
        assert not asked


def test_reads_from_disk_that_are_not_in_memory_are_answered_too(device: Puppet, content: bytes) -> None:
    device.flush()
    fd = os.open(device.name, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)
    with session(device) as s:
        for cookie in range(64):
            s.talk.ask(READ, cookie * 300_000, 4096 if cookie % 2 else 65536, cookie=cookie)
        for _ in range(64):
            reply = s.talk.answer()
            start = reply.cookie * 300_000
            assert reply.data == content[start : start + (4096 if reply.cookie % 2 else 65536)]


@pytest.mark.skipif(not _host.HAVE_SEEK_HOLE, reason="the system does not tell of holes")
def test_holes_come_as_holes(tmp_path: Path) -> None:
    path = tmp_path / "sparse.raw"
    path.touch()
    os.truncate(path, 8 * MIB)
    with RawDevice.open(path, writable=True) as device:
        device.pwrite(b"x" * 4096, 4 * MIB)
        with session(device) as s:
            s.talk.ask(STATUS, 0, 8 * MIB)
            status = s.talk.answer()
        described = struct.unpack(">IIIIIII" + "III", status.data)
    assert described == (1, 4 * MIB, 3, 4096, 0, 4 * MIB - 4096, 3, 2, 8 * MIB, 0)


def test_block_status_tells_one_piece_if_one_is_asked_for(device: Puppet) -> None:
    with session(device) as s:
        s.talk.ask(STATUS, MIB, MIB, flags=REQ_ONE)
        assert struct.unpack(">IIIIII", s.talk.answer().data) == (1, MIB, 0, 2, MIB, 0)


def test_writes_are_there_when_they_are_answered(device: Puppet, content: bytes) -> None:
    model = bytearray(content)
    rng = random.Random(2)
    with session(device) as s:
        for length in (1, 512, 4096, 40_000, 65536, MIB, MIB + 512, 5 * MIB):
            for quick in (True, False):
                device.quick = quick
                offset = rng.randrange(SIZE - length)
                data = rng.randbytes(length)
                model[offset : offset + length] = data
                s.talk.ask(WRITE, offset, payload=data, flags=rng.choice((0, FUA)))
                assert s.talk.answer().error == 0
                assert s.talk.read(offset, length).data == data
    assert device.pread(SIZE, 0) == model


def test_writes_in_a_row_with_their_payloads_cut_anywhere(device: Puppet) -> None:
    rng = random.Random(3)
    writes = [(index * 70_000, rng.randbytes(rng.choice((100, 4096, 33_000, 70_000)))) for index in range(60)]
    stream = b"".join(
        struct.pack(">IHHQQI", 0x25609513, 0, WRITE, cookie, offset, len(data)) + data
        for cookie, (offset, data) in enumerate(writes)
    )
    with session(device) as s:
        position = 0
        while position < len(stream):
            step = rng.choice((1, 27, 1000, 50_000, 200_000))
            s.talk.socket.sendall(stream[position : position + step])
            position += step
        assert {s.talk.answer()[:2] for _ in writes} == {(cookie, 0) for cookie in range(60)}
    for offset, data in writes:
        assert device.pread(len(data), offset) == data


@pytest.mark.parametrize("slow", [FLUSH, WRITE, ZEROES])
def test_a_slow_request_does_not_hold_up_the_reads_behind_it(
    device: Puppet, content: bytes, slow: int
) -> None:
    device.quick = False
    let_go = device.hold({FLUSH: "flush", WRITE: "pwrite", ZEROES: "write_zeroes"}[slow])
    with session(device) as s:
        payload = b"y" * 4096 if slow == WRITE else b""
        s.talk.ask(slow, 0, 0 if slow == FLUSH else 4096, cookie=77, payload=payload)
        for cookie in range(10):
            s.talk.ask(READ, 8192, 4096, cookie=cookie)
        for cookie in range(10):
            reply = s.talk.answer()
            assert (reply.cookie, reply.data) == (cookie, content[8192:12288])
        let_go.set()
        assert s.talk.answer()[:2] == (77, 0)


def test_a_long_read_lets_others_pass(device: Puppet, content: bytes) -> None:
    device.places = False
    with session(device) as s:
        s.talk.ask(READ, 0, MAX_PAYLOAD, cookie=1)
        s.talk.ask(READ, 4096, 4096, cookie=2)
        first = s.talk.answer()
        assert first.cookie == 2  # the other one is not complete before
        assert s.talk.answer().data == content[:MAX_PAYLOAD]


def test_errors_of_the_device_are_answers(device: Puppet) -> None:
    device.places = device.quick = False
    cases = (
        (OSError(errno.ENOSPC, "full"), ENOSPC),
        (OSError(errno.EIO, "broken"), EIO),
        (OSError(errno.EOPNOTSUPP, "no"), ENOTSUP),
        (ImagePoisonedError("half done"), EIO),
        (CorruptImageError(Finding(next(iter(RuleCode)), "BAT", 0)), EIO),
    )
    with session(device) as s:
        for error, number in cases:
            device.broken = {"pwrite": error, "flush": error, "write_zeroes": error}
            for command, length, payload in ((WRITE, 0, b"z" * 512), (FLUSH, 0, b""), (ZEROES, 512, b"")):
                s.talk.ask(command, 0, length, payload=payload)
                assert s.talk.answer().error == number
        device.broken = {}
        assert s.talk.read(0, 512).error == 0
    assert "client: write 512 at 0: " in s.lines[0]


@pytest.mark.parametrize("length", [4096, 65536, 3 * MIB])
def test_a_file_that_became_shorter_is_an_error_never_other_bytes(device: Puppet, length: int) -> None:
    os.truncate(device.name, MIB)
    with session(device) as s:
        s.talk.ask(READ, 2 * MIB, length)
        try:
            assert s.talk.answer().error == EIO
        except EOFError:
            assert "shorter" in s.wait()  # the header had been sent already


def test_requests_that_cannot_be_are_refused_and_the_stream_goes_on(device: Puppet, content: bytes) -> None:
    with session(device) as s:
        for command, offset, length, payload, flags, error in (
            (READ, SIZE, 512, b"", 0, EINVAL),
            (READ, 0, MAX_PAYLOAD + 1, b"", 0, EOVERFLOW),
            (WRITE, SIZE - 1, 0, b"ab", 0, ENOSPC),
            (WRITE, 0, 0, b"x" * 100_000, 1 << 9, EINVAL),
            (WRITE, 0, 0, bytes(MAX_PAYLOAD + 1), 0, EINVAL),
            (ZEROES, SIZE, 1, b"", 0, ENOSPC),
            (TRIM, SIZE, 1, b"", 0, EINVAL),
            (99, 0, 0, b"", 0, EINVAL),
        ):
            s.talk.ask(command, offset, length, payload=payload, flags=flags)
            assert s.talk.answer().error == error
            assert s.talk.read(0, 16).data == content[:16]
    assert device.pread(SIZE, 0) == content


def test_a_payload_that_is_beyond_all_measure_ends_the_connection(device: Puppet) -> None:
    with session(device) as s:
        s.talk.ask(WRITE, 0, 0xFFFFFFFF)
        assert "payload" in s.wait()


def test_a_write_that_was_sent_by_half_changes_nothing(device: Puppet, content: bytes) -> None:
    for length in (4096, 65536, 4 * MIB):
        for quick in (True, False):
            device.quick = quick
            with session(device) as s:
                s.talk.ask(WRITE, 0, length)
                s.talk.socket.sendall(b"q" * (length - 1))
                s.talk.socket.close()
                assert s.wait() == "the client left in the middle of a payload"
    assert device.pread(SIZE, 0) == content


def test_a_client_that_says_goodbye_is_answered_first(device: Puppet) -> None:
    device.quick = False
    with session(device) as s:
        s.talk.ask(WRITE, 0, cookie=5, payload=b"w" * 4096)
        s.talk.ask(FLUSH, cookie=6)
        s.talk.ask(DISC)
        assert {s.talk.answer()[:2], s.talk.answer()[:2]} == {(5, 0), (6, 0)}
        assert s.wait() == "left"
    assert device.pread(4096, 0) == b"w" * 4096


def test_zeroed_and_trimmed_ranges_read_as_zeroes(device: Puppet, content: bytes) -> None:
    with session(device) as s:
        for flags in (0, NO_HOLE, FUA, FAST_ZERO if _host.HAVE_FALLOCATE else 0):
            s.talk.ask(ZEROES, MIB, MIB, flags=flags)
            assert s.talk.answer().error == 0
        s.talk.ask(TRIM, 3 * MIB, MIB, flags=FUA)
        assert s.talk.answer().error == 0
        assert s.talk.read(MIB, MIB).data == bytes(MIB)
        assert s.talk.read(0, MIB).data == content[:MIB]


def test_simple_replies_carry_whole_reads(device: Puppet, content: bytes) -> None:
    for places in (True, False):
        device.places = places
        with session(device, SIMPLE) as s:
            for length in (512, 65536, 3 * MIB):
                s.talk.ask(READ, 4096, length, cookie=9)
                assert s.talk.exactly(16) == struct.pack(">IIQ", 0x67446698, 0, 9)
                assert s.talk.exactly(length) == content[4096 : 4096 + length]
            s.talk.ask(READ, SIZE, 512, cookie=10)
            assert s.talk.exactly(16) == struct.pack(">IIQ", 0x67446698, EINVAL, 10)


def test_requests_that_came_with_the_handshake_are_served(device: Puppet, content: bytes) -> None:
    early = struct.pack(">IHHQQI", 0x25609513, 0, READ, 3, 512, 512)
    with session(device, received=early) as s:
        assert s.talk.answer()[:3] == (3, 0, content[512:1024])


def test_a_stopped_connection_finishes_what_it_has_begun(device: Puppet) -> None:
    device.quick = False
    let_go = device.hold("pwrite")
    with session(device) as s:
        s.talk.ask(WRITE, 0, cookie=5, payload=b"w" * 4096)
        while "pwrite" not in device.calls:
            pass
        s.connection.stop()
        s.talk.ask(READ, 0, 512, cookie=6)
        let_go.set()
        assert {s.talk.answer()[:2] for _ in range(2)} == {(5, 0), (6, 0)}
        assert s.wait() == "left"


def test_memory_for_payloads_is_given_back(device: Puppet) -> None:
    device.quick = False
    budget = Budget(MIB)
    with session(device, budget=budget) as s:
        for cookie in range(50):
            s.talk.ask(WRITE, cookie * 4096, cookie=cookie, payload=b"m" * 300_000)
        assert {s.talk.answer().error for _ in range(50)} == {0}
    with session(device, budget=budget) as s:
        s.talk.ask(WRITE, 0, MIB)
        s.talk.socket.sendall(b"half")
        s.talk.socket.close()
        s.wait()
    assert budget.used == 0


def test_replies_that_nobody_reads_hold_up_only_the_client_itself(device: Puppet) -> None:
    """20,000 reads are asked for and no reply is taken: the server stops reading requests, and keeps nothing."""
    request = struct.pack(">IHHQQI", 0x25609513, 0, READ, 1, 0, 4096)
    with session(device) as s:
        s.talk.socket.settimeout(1.0)
        with pytest.raises(TimeoutError):
            s.talk.socket.sendall(request * 20_000)
        with session(device) as other:
            assert other.talk.read(0, 512).error == 0
        s.talk.socket.settimeout(GUARD_SECONDS)
        assert s.talk.answer().error == 0
