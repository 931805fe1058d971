"""A view with patches and zeroes over a base."""

import io
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.units import KIB, MIB, TIB
from vhdx.storage.base import ByteStore, StoreExtent, StoreKind, pread
from vhdx.storage.file import FileStore
from vhdx.storage.memory import MemoryStore
from vhdx.storage.overlay import SECTOR_SIZE, OverlayStore
from vhdx.testing.stores import StoreCall, WatchedStore

DATA, HOLE, OVERLAY = StoreKind.DATA, StoreKind.HOLE, StoreKind.OVERLAY

SECTORS = 12
"""The model tests play on this many sectors."""


def patch_of(token: int, into: memoryview) -> None:
    """A patch's content: its token, byte by byte the token plus the place."""
    assert len(into) == SECTOR_SIZE
    into[:] = patch_bytes(token)


def patch_bytes(token: int) -> bytes:
    return bytes((token + index) % 251 for index in range(SECTOR_SIZE))


def read(view: OverlayStore, length: int, file_offset: int) -> bytes:
    """Read into a buffer that is not zero before."""
    buffer = bytearray(b"\xee" * length)
    count = view.pread_into(buffer, file_offset)
    assert buffer[count:] == b"\xee" * (length - count)
    return bytes(buffer[:count])


def make(
    base: ByteStore,
    patches: dict[int, int] | None = None,
    zeroes: tuple[tuple[int, int], ...] = (),
    size: int | None = None,
) -> OverlayStore:
    return OverlayStore(base, patches=patches or {}, load=patch_of, zeroes=zeroes, size=size)


@settings(max_examples=150)
@given(data=st.data())
def test_view_agrees_with_a_plain_bytearray(data: st.DataObject) -> None:
    edge = st.integers(0, SECTORS * SECTOR_SIZE)
    base_size = data.draw(edge)
    size = data.draw(edge)
    base = bytes(index % 253 + 1 for index in range(base_size))
    patches = data.draw(st.dictionaries(st.integers(0, SECTORS), st.integers(-(1 << 63), (1 << 63) - 1)))
    zeroes = tuple(sorted(data.draw(st.lists(st.tuples(edge, edge), max_size=4))))

    model = bytearray(base.ljust((SECTORS + 1) * SECTOR_SIZE, b"\0"))
    kinds = [DATA if index < base_size else HOLE for index in range(len(model))]
    for start, end in zeroes:
        if end > start:
            model[start:end] = bytes(end - start)
            kinds[start:end] = [HOLE] * (end - start)
    for sector, token in patches.items():
        model[sector * SECTOR_SIZE : (sector + 1) * SECTOR_SIZE] = patch_bytes(token)
        kinds[sector * SECTOR_SIZE : (sector + 1) * SECTOR_SIZE] = [OVERLAY] * SECTOR_SIZE
    del model[size:]
    kinds = kinds[:size] + [HOLE] * (SECTORS * SECTOR_SIZE + SECTOR_SIZE - size)

    view = make(MemoryStore(base), patches, zeroes, size)
    assert view.size() == size
    offset, length = data.draw(edge), data.draw(st.integers(0, 4 * SECTOR_SIZE))
    assert read(view, length, offset) == model[offset : offset + length]
    assert read(view, len(model) + 1, 0) == model

    position = offset
    for extent in view.extents(offset, min(length, len(kinds) - offset)):
        assert extent.file_offset == position
        assert extent.length > 0
        got = set(kinds[position : position + extent.length])
        # Memory's pages are larger than its content, so a hole may be called data, but never the reverse.
        assert got == {extent.kind} or (extent.kind is DATA and OVERLAY not in got)
        position += extent.length
    assert position == offset + min(length, len(kinds) - offset)

    is_plain = set(kinds[offset : offset + length]) <= {DATA} and offset + length <= min(size, base_size)
    assert view.is_plain(offset, length) == is_plain or length == 0


def test_patches_win_over_zeroes_and_zeroes_over_the_base() -> None:
    view = make(MemoryStore(b"x" * (8 * SECTOR_SIZE)), {2: 1, 3: 2, 6: 3}, ((10, 7 * SECTOR_SIZE + 10),))
    assert read(view, 8 * SECTOR_SIZE, 0) == (
        b"x" * 10
        + bytes(2 * SECTOR_SIZE - 10)
        + patch_bytes(1)
        + patch_bytes(2)
        + bytes(2 * SECTOR_SIZE)
        + patch_bytes(3)
        + bytes(10)
        + b"x" * (SECTOR_SIZE - 10)
    )
    assert [extent.kind for extent in view.extents(0, 8 * SECTOR_SIZE)] == [
        *(DATA, HOLE, OVERLAY, HOLE, OVERLAY, HOLE, DATA)
    ]


def test_extents_tell_patches_zeroes_base_and_nothing_apart() -> None:
    view = make(
        MemoryStore(b"x" * (6 * SECTOR_SIZE)),
        {1: 0, 2: 0, 9: 0},
        ((3 * SECTOR_SIZE, 4 * SECTOR_SIZE), (4 * SECTOR_SIZE, 4 * SECTOR_SIZE + 5)),
        10 * SECTOR_SIZE,
    )
    assert list(view.extents(10, 11 * SECTOR_SIZE)) == [
        StoreExtent(10, SECTOR_SIZE - 10, DATA),
        StoreExtent(SECTOR_SIZE, 2 * SECTOR_SIZE, OVERLAY),
        StoreExtent(3 * SECTOR_SIZE, SECTOR_SIZE + 5, HOLE),
        StoreExtent(4 * SECTOR_SIZE + 5, 2 * SECTOR_SIZE - 5, DATA),
        StoreExtent(6 * SECTOR_SIZE, 3 * SECTOR_SIZE, HOLE),
        StoreExtent(9 * SECTOR_SIZE, SECTOR_SIZE, OVERLAY),
        StoreExtent(10 * SECTOR_SIZE, SECTOR_SIZE + 10, HOLE),
    ]


def test_read_that_meets_no_patch_is_one_read_of_the_base() -> None:
    base = WatchedStore(MemoryStore(b"x" * (2 * MIB)))
    reads: list[StoreCall] = []
    base.before_read = reads.append
    view = make(base, dict.fromkeys([0, 300, 400], 1), ((MIB + 256 * KIB, 2 * MIB),))
    assert pread(view, MIB, SECTOR_SIZE) == b"x" * MIB
    assert reads == [("pread", SECTOR_SIZE, MIB)]


def test_base_is_not_read_under_patches_and_zeroes() -> None:
    base = WatchedStore(MemoryStore(b"x" * (4 * SECTOR_SIZE)))
    reads: list[StoreCall] = []
    base.before_read = reads.append
    view = make(base, {1: 5}, ((2 * SECTOR_SIZE, 3 * SECTOR_SIZE),))
    got = pread(view, 4 * SECTOR_SIZE, 0)
    assert got == b"x" * SECTOR_SIZE + patch_bytes(5) + bytes(SECTOR_SIZE) + b"x" * SECTOR_SIZE
    assert reads == [("pread", 0, SECTOR_SIZE), ("pread", 3 * SECTOR_SIZE, SECTOR_SIZE)]


def test_whole_patch_is_loaded_straight_into_the_caller_s_buffer() -> None:
    seen = list[bool]()
    buffer = bytearray(SECTOR_SIZE)

    def load(token: int, into: memoryview) -> None:
        seen.append(into.obj is buffer)

    view = OverlayStore(MemoryStore(bytes(SECTOR_SIZE)), patches={0: 7}, load=load)
    view.pread_into(buffer, 0)
    view.pread_into(buffer, 1)
    assert seen == [True, False]
    buffer.append(0)  # nobody holds a view of it


def test_view_may_be_far_larger_than_its_base() -> None:
    view = make(MemoryStore(b"abc"), {1 << 30: 9}, ((0, 1), (TIB, 1 << 64)), 64 * TIB)
    assert read(view, 5, 0) == b"\0bc\0\0"
    assert read(view, 3 * MIB, 32 * TIB) == bytes(3 * MIB)
    assert pread(view, SECTOR_SIZE, 1 << 42) == patch_bytes(9)
    assert pread(view, 10, 64 * TIB - 3) == bytes(3)
    assert pread(view, 10, 1 << 64) == b""


def test_patches_are_copied() -> None:
    patches = {0: 1}
    view = make(MemoryStore(bytes(SECTOR_SIZE)), patches)
    patches.clear()
    assert pread(view, SECTOR_SIZE, 0) == patch_bytes(1)


def test_base_that_became_shorter_reads_as_zeroes() -> None:
    base = MemoryStore(b"x" * SECTOR_SIZE)
    view = make(base)
    base.truncate(10)
    assert read(view, SECTOR_SIZE, 0) == b"x" * 10 + bytes(SECTOR_SIZE - 10)
    assert not view.is_plain(0, 11)
    assert view.is_plain(0, 10)


def test_unsorted_zeroes_are_refused() -> None:
    with pytest.raises(ValueError, match="sorted"):
        make(MemoryStore(), zeroes=((10, 20), (5, 7)))


def test_error_of_a_patch_reaches_the_reader() -> None:
    def load(token: int, into: memoryview) -> None:
        raise OSError(5, "cannot read the log")

    view = OverlayStore(MemoryStore(bytes(SECTOR_SIZE)), patches={0: 0}, load=load)
    with pytest.raises(OSError, match="cannot read the log"):
        pread(view, 1, 0)


def test_view_cannot_be_changed_and_has_no_descriptor_but_its_base_has(image: Path) -> None:
    view = OverlayStore(FileStore.open(image, writable=True), patches={}, load=patch_of)
    calls: list[Callable[[], None]] = [
        lambda: view.pwrite(b"x", 0),
        lambda: view.truncate(0),
        lambda: view.write_zeroes(1, 0),
    ]
    for call in calls:
        with pytest.raises(io.UnsupportedOperation):
            call()
    assert view.fileno() is None
    assert view.base.fileno() is not None
    view.close()
    with pytest.raises(ValueError, match="closed"):
        view.base.size()


def test_closed_view_raises_value_error() -> None:
    view = make(MemoryStore(b"abc"))
    view.close()
    view.close()
    calls: list[Callable[[], object]] = [
        view.size,
        lambda: view.pread_into(bytearray(1), 0),
        lambda: view.extents(0, 1),
        view.flush,
    ]
    for call in calls:
        with pytest.raises(ValueError, match="closed"):
            call()


def test_a_quarter_million_patches_take_a_few_megabytes() -> None:
    patches = {sector * 3: sector for sector in range(262144)}
    tracemalloc.start()
    try:
        view = make(MemoryStore(), patches, size=TIB)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 5 * MIB
    assert peak < 16 * MIB
    assert pread(view, SECTOR_SIZE, 300 * SECTOR_SIZE) == patch_bytes(100)


def test_settled_view_answers_everything_from_its_base(image: Path) -> None:
    base = FileStore.open(image, writable=True)
    view = OverlayStore(
        base, patches={0: 5}, load=patch_of, zeroes=((SECTOR_SIZE, 2 * SECTOR_SIZE),), size=MIB
    )
    base.truncate(2 * MIB)
    base.pwrite(b"new", 0)
    view.settle()
    assert view.size() == 2 * MIB
    assert pread(view, 3, 0) == b"new"
    assert pread(view, 3, 2 * MIB - 1) == b"\0"
    assert view.is_plain(MIB, MIB)
    assert not view.is_plain(MIB, MIB + 1)
    assert list(view.extents(0, 3 * MIB)) == list(base.extents(0, 3 * MIB))
    assert view.fileno() == base.fileno()
    view.close()
