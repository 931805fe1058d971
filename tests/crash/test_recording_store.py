"""The recording store behaves as a store, and its record says what was durable when."""

import errno

import pytest

from vhdx.testing.crash import Call, Content, Fault, RecordingStore, StepKind, durable_content


def held(store: RecordingStore, length: int, file_offset: int) -> bytes:
    buffer = bytearray(length)
    return bytes(buffer[: store.pread_into(buffer, file_offset)])


def durable(store: RecordingStore) -> Content:
    return durable_content(store.start, store.steps)


def test_written_bytes_are_read_at_once_and_durable_only_after_a_flush() -> None:
    store = RecordingStore(b"a" * 1024)
    store.pwrite(b"b" * 512, 512)
    assert held(store, 1024, 0) == b"a" * 512 + b"b" * 512
    assert durable(store).read(1024, 0) == b"a" * 1024


def test_a_flush_makes_durable_what_had_returned() -> None:
    store = RecordingStore(b"a" * 1024)
    store.pwrite(b"b" * 512, 512)
    store.flush()
    store.pwrite(b"c" * 512, 0)
    assert durable(store).read(1024, 0) == b"a" * 512 + b"b" * 512


def test_a_flush_does_not_cover_what_is_issued_while_it_runs() -> None:
    store = RecordingStore(b"a" * 1024)

    def checkpoint(label: str) -> None:
        if label == "flush returns":
            store.checkpoint = lambda _: None
            store.pwrite(b"b" * 512, 0)

    store.checkpoint = checkpoint
    store.flush()
    assert durable(store).read(512, 0) == b"a" * 512
    store.flush()
    assert durable(store).read(512, 0) == b"b" * 512


def test_a_flush_does_not_cover_a_write_that_has_not_returned() -> None:
    store = RecordingStore(b"a" * 1024)

    def checkpoint(label: str) -> None:
        if label == "pwrite returns":
            store.checkpoint = lambda _: None
            store.flush()

    store.checkpoint = checkpoint
    store.pwrite(b"b" * 512, 0)
    assert durable(store).read(512, 0) == b"a" * 512


def test_what_a_failed_flush_should_have_covered_is_never_durable() -> None:
    error = OSError(errno.EIO, "broken")
    store = RecordingStore(b"a" * 1024, fault=Fault(Call.FLUSH, 1, error))
    store.pwrite(b"b" * 512, 0)
    with pytest.raises(OSError, match="broken"):
        store.flush()
    store.pwrite(b"c" * 512, 512)
    store.flush()
    assert durable(store).read(1024, 0) == b"a" * 512 + b"c" * 512


def test_an_unaligned_write_is_recorded_as_whole_sectors() -> None:
    store = RecordingStore(b"a" * 1536)
    store.pwrite(b"bb", 511)
    (change,) = store.changes
    assert (change.file_offset, change.length) == (0, 1024)
    assert change.data == b"a" * 511 + b"bb" + b"a" * 511


def test_sizes_follow_writes_truncations_and_zeroes() -> None:
    store = RecordingStore(b"a" * 1024)
    store.pwrite(b"b" * 512, 4096)
    assert store.size() == 4608
    store.truncate(600)
    assert store.size() == 600
    store.truncate(2048)
    assert held(store, 2048, 0) == b"a" * 600 + bytes(1448)
    store.write_zeroes(1024, 8192)
    assert store.size() == 9216


def test_extents_tell_pages_that_hold_something() -> None:
    store = RecordingStore(b"a" * 100)
    store.pwrite(b"b", 8192)
    store.truncate(20000)
    kinds = [(extent.file_offset, extent.length, extent.kind.value) for extent in store.extents(50, 30000)]
    assert kinds == [(50, 4046, "data"), (4096, 4096, "hole"), (8192, 4096, "data"), (12288, 17762, "hole")]


@pytest.mark.parametrize("sectors", [0, 1, 2, 1000])
def test_a_failing_write_does_so_many_sectors_first(sectors: int) -> None:
    store = RecordingStore(bytes(1536))
    store.fault = Fault(Call.PWRITE, 2, OSError(errno.ENOSPC, "full"), sectors)
    store.pwrite(b"x" * 512, 0)
    with pytest.raises(OSError, match="full"):
        store.pwrite(b"y" * 1024, 512)
    done = 512 * min(sectors, 2)
    assert held(store, 1536, 0) == b"x" * 512 + b"y" * done + bytes(1024 - done)
    assert store.fault.hit


def test_marks_stand_between_the_changes_of_the_record() -> None:
    store = RecordingStore()
    store.pwrite(b"x", 0)
    store.mark("here")
    store.flush()
    kinds = [step.kind for step in store.steps]
    assert kinds == [
        StepKind.ISSUED,
        StepKind.RETURNED,
        StepKind.MARK,
        StepKind.FLUSH_BEGUN,
        StepKind.FLUSHED,
    ]


def test_another_thread_may_go_on_at_every_call() -> None:
    labels: list[str] = []
    store = RecordingStore(bytes(512), checkpoint=labels.append)
    store.size()
    list(store.extents(0, 512))
    held(store, 512, 0)
    store.write_zeroes(512, 0)
    store.reserve(512, 0)
    store.flush()
    assert labels == [
        "size",
        "extents",
        "pread",
        "write_zeroes",
        "write_zeroes returns",
        "reserve",
        "flush",
        "flush returns",
    ]
