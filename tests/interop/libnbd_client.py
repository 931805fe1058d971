"""A client of `vhdx serve` made of libnbd's own binding, for the Python that has it.

    /usr/bin/python3 libnbd_client.py SCENARIO URI CONTENT

CONTENT is a file with what the disk at URI holds. A scenario that writes leaves in it what the disk must hold
afterwards. Exit status 1, with the reason, where the server answers otherwise than it should.
"""

import errno
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

nbd: Any = import_module("nbd")
"""The binding, which only the system's own Python has."""
Handle = Any

KIB, MIB = 1 << 10, 1 << 20
SECTOR = 512

ALLOCATION, DEPTH = "base:allocation", "vhdx:depth"
HOLE_OF_ZEROES = nbd.STATE_HOLE | nbd.STATE_ZERO

Attempt = Callable[[], object]
Descriptors = dict[str, list[tuple[int, int]]]


def connect(uri: str, *, structured: bool = True, contexts: tuple[str, ...] = ()) -> Handle:
    """Connect, without libnbd's own judgement of what may be asked."""
    handle = nbd.NBD()
    handle.set_request_structured_replies(structured)
    handle.set_strict_mode(0)
    for context in contexts:
        handle.add_meta_context(context)
    handle.connect_uri(uri)
    return handle


@contextmanager
def refused(*allowed: int) -> Iterator[None]:
    """What is done here must fail with one of these errors."""
    try:
        yield
    except nbd.Error as error:
        assert error.errnum in allowed, f"{error} is none of {[errno.errorcode[each] for each in allowed]}"
    else:
        raise AssertionError(f"succeeded, and should fail with {[errno.errorcode[each] for each in allowed]}")


def status(handle: Handle, length: int, offset: int, flags: int = 0) -> Descriptors:
    """What one BLOCK_STATUS request tells: (length, flags) by context."""
    found: Descriptors = {}

    def note(context: str, start: int, entries: list[int], error: object) -> None:
        assert start == offset
        found[context] = list(zip(entries[::2], entries[1::2], strict=True))

    handle.block_status(length, offset, note, flags)
    return found


def chunks(handle: Handle, length: int, offset: int, flags: int = 0) -> list[tuple[int, int, int]]:
    """(offset, length, kind) of the chunks that a read is answered with, in order of their offsets."""
    found: list[tuple[int, int, int]] = []

    def note(data: bytes, start: int, kind: int, error: object) -> None:
        found.append((start, len(data), kind))

    handle.pread_structured(length, offset, note, flags)
    return sorted(found)


def some_ranges(size: int, count: int, seed: int = 1) -> Iterator[tuple[int, int]]:
    """(length, offset), of all alignments, some of them at the end."""
    chance = random.Random(seed)
    for _ in range(count):
        length = min(chance.choice((1, 512, 4096, 5000, 65536, 300_001, 3 * MIB)), size)
        yield length, chance.choice((size - length, chance.randrange(size - length + 1)))


# -- reading ---------------------------------------------------------------------------------------------------


def replies_of_every_form_hold_the_same(uri: str, content: bytearray) -> None:
    """Simple, structured, and structured in one piece."""
    for structured in (False, True):
        handle = connect(uri, structured=structured)
        assert handle.get_structured_replies_negotiated() is structured
        assert handle.can_df() is structured
        for length, offset in some_ranges(len(content), 60):
            for flags in (0, nbd.CMD_FLAG_DF) if structured else (0,):
                assert handle.pread(length, offset, flags) == content[offset : offset + length]
        handle.shutdown()


def holes_come_as_holes(uri: str, content: bytearray) -> None:
    """Chunks cover what was asked for; holes are zeroes, and not all zeroes are sent as data."""
    handle = connect(uri)
    holes = 0
    for offset in range(0, len(content), 8 * MIB):
        length = min(8 * MIB, len(content) - offset)
        found = chunks(handle, length, offset)
        assert found[0][0] == offset
        assert all(start + count == following for (start, count, _), (following, _, _) in pairwise(found))
        assert sum(count for _, count, _ in found) == length
        for start, count, kind in found:
            assert kind in (nbd.READ_DATA, nbd.READ_HOLE)
            if kind == nbd.READ_HOLE:
                holes += count
                assert not any(content[start : start + count])
    assert holes > MIB


def read_that_may_not_be_split_is_one_chunk(uri: str, content: bytearray) -> None:
    """DF, also for far more than must be granted."""
    handle = connect(uri)
    for length in (4096, 64 * KIB, 3 * MIB, 20 * MIB):
        assert len(chunks(handle, length, 0, nbd.CMD_FLAG_DF)) == 1
    assert len(chunks(handle, 20 * MIB, 0)) > 1


def every_status_is_true(uri: str, content: bytearray) -> None:
    """Both contexts; all descriptors; what is told to be zero is zero."""
    handle = connect(uri, contexts=(ALLOCATION, DEPTH))
    assert handle.can_meta_context(ALLOCATION)
    assert handle.can_meta_context(DEPTH)
    depths: set[int] = set()
    most = 0
    for context in (ALLOCATION, DEPTH):
        offset = 0
        while offset < len(content):
            found = status(handle, len(content) - offset, offset)[context]
            most = max(most, len(found))
            for length, flags in found:
                assert length > 0
                if context == DEPTH:
                    depths.add(flags)
                elif flags & nbd.STATE_ZERO:
                    assert not any(content[offset : offset + length])
                offset += length
        assert offset == len(content)
    assert most > 3
    assert depths == {0, 1, 2}


def one_status_is_the_first_of_all(uri: str, content: bytearray) -> None:
    """REQ_ONE."""
    handle = connect(uri, contexts=(ALLOCATION, DEPTH))
    for length, offset in some_ranges(len(content), 40):
        everything, first = (
            status(handle, length, offset),
            status(handle, length, offset, nbd.CMD_FLAG_REQ_ONE),
        )
        for context in (ALLOCATION, DEPTH):
            assert sum(count for count, _ in everything[context]) <= length
            assert first[context] == everything[context][:1]


def status_has_as_many_descriptors_as_there_are_changes(uri: str, content: bytearray) -> None:
    """For a disk of which every other block holds data."""
    handle = connect(uri, contexts=(ALLOCATION,))
    found = status(handle, len(content), 0)[ALLOCATION]
    assert len(found) >= len(content) // MIB
    assert {flags for _, flags in found} == {0, HOLE_OF_ZEROES}


def many_reads_in_flight_are_each_answered_right(uri: str, content: bytearray) -> None:
    """Two hundred at a time, and 4 KiB are not held up by the megabytes in front of them."""
    handle = connect(uri)
    overtaken = 0
    for seed in range(5):
        ranges = [(24 * MIB, 0), *some_ranges(len(content), 200, seed)]
        finished: list[int] = []
        buffers = [nbd.Buffer(length) for length, _ in ranges]
        for number, (buffer, (_, offset)) in enumerate(zip(buffers, ranges, strict=True)):
            handle.aio_pread(buffer, offset, completion=noting(finished, number))
        drain(handle)
        assert sorted(finished) == list(range(len(ranges)))
        for buffer, (length, offset) in zip(buffers, ranges, strict=True):
            assert buffer.to_bytearray() == content[offset : offset + length]
        overtaken += any(earlier > later for earlier, later in pairwise(finished))
    assert overtaken, "every reply came in the order of the requests"


def noting(finished: list[int], number: int) -> Callable[[object], int]:
    """A completion that takes its number down."""

    def completed(error: object) -> int:
        assert not getattr(error, "value", 0), error
        finished.append(number)
        return 1

    return completed


def drain(handle: Handle) -> None:
    """Wait for every request in flight."""
    while handle.aio_in_flight():
        assert handle.poll(60_000) > 0, "the server does not answer"


def cached_ranges_read_as_before(uri: str, content: bytearray) -> None:
    """CACHE is allowed everywhere and changes nothing."""
    handle = connect(uri)
    for length, offset in some_ranges(len(content), 20):
        handle.cache(length, offset)
        assert handle.pread(length, offset) == content[offset : offset + length]
    handle.cache(len(content), 0)


# -- what must be refused ----------------------------------------------------------------------------------------


def requests_past_the_end_are_refused(uri: str, content: bytearray) -> None:
    """And nothing is changed, and the connection goes on."""
    size = len(content)
    handle = connect(uri, contexts=(ALLOCATION,))
    for length, offset in ((4096, size), (4096, size - 512), (1, size + 12345), (512, 1 << 62)):
        with refused(errno.EINVAL):
            handle.pread(length, offset)
        with refused(errno.EINVAL, errno.ENOSPC):
            handle.trim(length, offset)
        with refused(errno.EINVAL):
            handle.cache(length, offset)
        with refused(errno.EINVAL):
            status(handle, length, offset)
        with refused(errno.ENOSPC):
            handle.pwrite(b"x" * length, offset)
        with refused(errno.ENOSPC):
            handle.zero(length, offset)
        assert_unchanged(handle, content)


def writes_to_a_read_only_export_are_refused(uri: str, content: bytearray) -> None:
    """Each command that writes; a flush has nothing to do."""
    handle = connect(uri)
    assert handle.is_read_only()
    attempts: list[Attempt] = [
        lambda: handle.pwrite(b"x" * 4096, 0),
        lambda: handle.zero(4096, 0),
        lambda: handle.trim(MIB, 0),
    ]
    for attempt in attempts:
        with refused(errno.EPERM):
            attempt()
    handle.flush()
    assert_unchanged(handle, content)


def odd_requests_leave_the_connection_in_step(uri: str, content: bytearray) -> None:
    """Empty ones, flags that are not known, payloads beyond the limit: answered, whatever the answer is."""
    handle = connect(uri, contexts=(ALLOCATION,))
    empty: list[Attempt] = [
        lambda: handle.pread(0, 0),
        lambda: handle.pwrite(b"", 4096),
        lambda: handle.zero(0, 0),
        lambda: handle.trim(0, 0),
        lambda: handle.cache(0, 0),
        lambda: status(handle, 0, 0),
        lambda: handle.pread(0, len(content)),
    ]
    for attempt in empty:
        try:
            attempt()
        except nbd.Error as error:
            assert error.errnum == errno.EINVAL
        assert_unchanged(handle, content)
    wrong: list[Attempt] = [
        lambda: handle.pread(512, 0, 1 << 12),
        lambda: handle.pwrite(b"x" * 4096, 0, 1 << 12),
        lambda: handle.zero(4096, 0, nbd.CMD_FLAG_REQ_ONE),
        lambda: handle.flush(nbd.CMD_FLAG_DF),
        lambda: handle.pwrite(bytes(33 * MIB), 0),
        lambda: handle.pread(33 * MIB, 0),
    ]
    for attempt in wrong:
        with refused(errno.EINVAL, errno.EOVERFLOW, errno.ENOSPC):
            attempt()
        assert_unchanged(handle, content)


def assert_unchanged(handle: Handle, content: bytearray) -> None:
    for length, offset in ((4096, 0), (4096, len(content) - 4096)):
        assert handle.pread(length, offset) == content[offset : offset + length]


# -- writing -----------------------------------------------------------------------------------------------------


def writes_of_every_alignment_are_all_there(uri: str, content: bytearray) -> None:
    """With and without FUA; read back at once by the same connection and by another."""
    handle, other = connect(uri), connect(uri, structured=False)
    chance = random.Random(5)
    for length, offset in some_ranges(len(content), 60, 2):
        data = chance.randbytes(length)
        handle.pwrite(data, offset, chance.choice((0, nbd.CMD_FLAG_FUA)))
        content[offset : offset + length] = data
        for reader in (handle, other):
            assert reader.pread(length, offset) == data
    assert other.pread(20 * MIB, 0) == content[: 20 * MIB]
    handle.flush()


def zeroes_and_trims_read_as_they_should(uri: str, content: bytearray) -> None:
    """Zeroes with NO_HOLE stay allocated, others need not; FAST_ZERO is done, or is refused with nothing done."""
    handle = connect(uri, contexts=(ALLOCATION,))
    chance = random.Random(6)
    for turn in range(12):
        length, offset = chance.choice(
            ((MIB, turn * MIB), (2 * MIB + 512, turn * MIB + 4096), (700, turn * MIB + 9))
        )
        handle.zero(length, offset, nbd.CMD_FLAG_NO_HOLE if turn % 2 else 0)
        content[offset : offset + length] = bytes(length)
        assert not any(handle.pread(length, offset))
    handle.zero(MIB, 2 * MIB, nbd.CMD_FLAG_NO_HOLE)
    assert status(handle, MIB, 2 * MIB)[ALLOCATION] == [(MIB, 0)]
    handle.zero(MIB, 2 * MIB, nbd.CMD_FLAG_FUA)
    assert status(handle, MIB, 2 * MIB)[ALLOCATION] == [(MIB, HOLE_OF_ZEROES)]
    handle.zero(4 * MIB, 4 * MIB, nbd.CMD_FLAG_FAST_ZERO)
    content[2 * MIB : 3 * MIB], content[4 * MIB : 8 * MIB] = bytes(MIB), bytes(4 * MIB)
    try:
        handle.zero(1000, 10 * MIB + 1, nbd.CMD_FLAG_FAST_ZERO)
    except nbd.Error as error:
        assert error.errnum == errno.ENOTSUP
    else:
        content[10 * MIB + 1 : 10 * MIB + 1001] = bytes(1000)
    handle.trim(3 * MIB, 12 * MIB, nbd.CMD_FLAG_FUA)
    trimmed = handle.pread(3 * MIB, 12 * MIB)
    assert not any(trimmed)  # ours is a server that says so
    content[12 * MIB : 15 * MIB] = trimmed
    assert handle.pread(len(content) - MIB, MIB) == content[MIB:]


def many_writes_in_flight_all_arrive(uri: str, content: bytearray) -> None:
    """On two connections, side by side, with flushes and reads of the rest between them."""
    handles = [connect(uri) for _ in range(2)]
    chance = random.Random(7)
    for _ in range(4):
        finished: list[int] = []
        pieces = chance.sample(range(len(content) // (16 * KIB)), 120)
        for number, piece in enumerate(pieces):
            data = bytearray(chance.randbytes(chance.choice((512, 4096, 16 * KIB))))
            handle, offset = handles[number % 2], piece * 16 * KIB
            completion = noting(finished, number)
            handle.aio_pwrite(nbd.Buffer.from_bytearray(data), offset, completion=completion)
            content[offset : offset + len(data)] = data
            if number % 30 == 29:
                handle.aio_flush()
        for handle in handles:
            drain(handle)
        assert sorted(finished) == list(range(len(pieces)))
        for handle in handles:
            assert handle.pread(24 * MIB, 0) == content[: 24 * MIB]


def write_on_one_connection_is_flushed_by_another(uri: str, content: bytearray) -> None:
    """The test kills the server afterwards."""
    writer, flusher = connect(uri), connect(uri)
    assert writer.can_multi_conn()
    for number in range(20):
        data = bytes([number + 1]) * 70_000
        offset = (number * 1_234_567) % (len(content) - 70_000)
        writer.pwrite(data, offset)
        content[offset : offset + 70_000] = data
        assert flusher.pread(70_000, offset) == data
    flusher.flush()


def main() -> None:
    """Run the scenario that the command line names."""
    scenario, uri, path = sys.argv[1:]
    content = bytearray(Path(path).read_bytes())
    globals()[scenario](uri, content)
    Path(path).write_bytes(content)


if __name__ == "__main__":
    main()
