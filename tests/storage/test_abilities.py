"""What a store may offer beside the nine methods, and what holds for a store that offers nothing."""

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from support.units import MIB
from vhdx import _host
from vhdx.storage.base import (
    FileFacts,
    QuickReads,
    ReadAhead,
    SpaceControl,
    WriteBehind,
    identity_of,
    is_block_device,
    is_same_file,
    is_writable,
    lock_warning_of,
    path_of,
    read_ahead,
    reader_of,
    space_control,
    write_behind,
)
from vhdx.storage.file import FileStore
from vhdx.storage.memory import MemoryStore
from vhdx.storage.overlay import OverlayStore
from vhdx.storage.zeroes import ZEROES, fill_zeroes, reserve_space, write_zeroes
from vhdx.testing.crash import RecordingStore
from vhdx.testing.stores import HostStore, PassingStore


@pytest.fixture
def file(tmp_path: Path) -> Iterator[FileStore]:
    path = tmp_path / "file"
    path.write_bytes(b"x" * MIB)
    with FileStore.open(path, writable=True) as store:
        yield store


def members(protocol: type) -> set[str]:
    return {name for name in vars(protocol) if not name.startswith("_")}


def test_each_store_has_all_members_of_the_protocols_that_it_offers(file: FileStore) -> None:
    view = OverlayStore(file, patches={}, load=lambda *_: None)
    recording = RecordingStore()
    # A member with another signature is an error of the type checker in these lines.
    quick: tuple[QuickReads, ...] = (file,)
    ahead: tuple[ReadAhead, ...] = (file, view)
    behind: tuple[WriteBehind, ...] = (file,)
    space: tuple[SpaceControl, ...] = (file, recording, HostStore(recording))
    facts: tuple[FileFacts, ...] = (file,)
    offers = {QuickReads: quick, ReadAhead: ahead, WriteBehind: behind, SpaceControl: space, FileFacts: facts}
    for protocol, stores in offers.items():
        for store in stores:
            assert members(protocol) <= set(dir(store))


def test_store_with_nothing_but_the_nine_methods_is_a_writable_store_that_is_no_file() -> None:
    store = PassingStore(MemoryStore(b"content"))
    read_ahead(store, 7, 0)
    write_behind(store, 7, 0)
    space = space_control(store)
    space.punch_hole(7, 0)
    assert not space.reserve(100, 0)
    assert not space.zero_unwritten(7, 0, may_punch=True)
    assert (space.can_punch, space.can_zero_unwritten) == (False, False)
    assert (path_of(store), identity_of(store), lock_warning_of(store)) == (None, None, None)
    assert (is_writable(store), is_block_device(store)) == (True, False)
    assert reader_of(store)(100, 3) == b"tent"
    assert is_same_file(store, store)
    assert not is_same_file(store, PassingStore(MemoryStore(b"content")))


def test_facts_of_a_file_are_those_of_its_store(file: FileStore) -> None:
    with FileStore.open(cast("str", file.path), lock=False) as same:
        assert path_of(same) == file.path
        assert is_same_file(same, file)
        assert (is_writable(same), is_writable(file)) == (False, True)
    assert not is_same_file(file, MemoryStore())
    assert space_control(file) is cast("SpaceControl", file)


def test_reserving_writes_zeroes_only_where_space_cannot_be_taken_otherwise(tmp_path: Path) -> None:
    bare = PassingStore(MemoryStore())
    reserve_space(bare, MIB + 5)
    assert bare.size() == MIB + 5
    path = tmp_path / "new"
    path.touch()
    with FileStore.open(path, writable=True) as store:
        reserve_space(store, 3 * MIB + 5)
        assert store.size() == 3 * MIB + 5
        assert path.stat().st_blocks * 512 >= 3 * MIB
        assert next(store.extents(0, MIB)).length == MIB


@pytest.mark.skipif(not _host.HAVE_FALLOCATE, reason="space cannot be reserved here")
def test_reserving_keeps_what_the_range_holds(file: FileStore) -> None:
    assert file.reserve(2 * MIB, 0)
    assert file.pread(MIB, 0) == b"x" * MIB
    assert file.size() == 2 * MIB


@pytest.mark.parametrize("length", [0, 1, len(ZEROES) - 1, len(ZEROES), len(ZEROES) + 1, 3 * len(ZEROES) + 7])
def test_zeroes_fill_exactly_the_range(length: int) -> None:
    buffer = bytearray(b"x" * (length + 20))
    with memoryview(buffer) as view, view[10 : 10 + length] as part:
        fill_zeroes(part)
    expected = b"x" * 10 + bytes(length) + b"x" * 10
    assert buffer == expected
    store = MemoryStore(b"x" * (length + 20))
    write_zeroes(store.pwrite, length, 10)
    assert reader_of(store)(length + 20, 0) == expected
