"""What a session changes beside the data: headers and their GUIDs, the log, damaged copies; and when not."""

from collections.abc import Callable
from pathlib import Path

import pytest

import vhdx
from support.dirty import GROWN, ZEROED, applied, grow, grow_then_zero, unlogged
from support.units import MIB
from support.written_images import block_entry, chain_bytes, current_header, faults, file_bytes, headers
from vhdx.format.bat import PayloadState
from vhdx.format.constants import REGION_TABLE_FILE_OFFSETS
from vhdx.format.guids import ZERO_GUID
from vhdx.format.region_table import REGION_TABLE_SIZE
from vhdx.ops.create import create
from vhdx.storage.base import pread
from vhdx.storage.memory import MemoryStore
from vhdx.testing import ImageBuilder
from vhdx.testing.stores import StoreCall, WatchedStore


def some_image() -> ImageBuilder:
    image = ImageBuilder(8 * MIB)
    image.add_block(0, b"o" * MIB)
    image.set_block(1, PayloadState.ZERO)
    return image


NOTHING: dict[str, Callable[[vhdx.Disk], object]] = {
    "nothing": lambda disk: None,
    "flush": lambda disk: disk.flush(),
    "read": lambda disk: disk.pread(8 * MIB, 0),
    "empty write": lambda disk: disk.pwrite(b"", 5, fua=True),
    "empty zeroing": lambda disk: disk.write_zeroes(0, 5),
    "empty trim": lambda disk: disk.trim(0, 0),
    "trim of a part": lambda disk: disk.trim(512, 0),
    "trim of what is not there": lambda disk: disk.trim(7 * MIB, MIB),
    "zeroing of zeroes": lambda disk: disk.write_zeroes(MIB + 512, MIB),
    "extents": lambda disk: list(disk.extents()),
}


@pytest.mark.parametrize("name", NOTHING)
def test_session_that_changes_nothing_leaves_the_file_as_it_was(name: str) -> None:
    watched = WatchedStore(some_image().build_store())
    before = file_bytes(watched)
    with vhdx.open(watched, "r+") as disk:
        NOTHING[name](disk)
    assert file_bytes(watched) == before
    assert watched.calls == []


@pytest.mark.parametrize("name", ["write", "write_zeroes", "trim"])
def test_range_outside_the_disk_is_refused_with_nothing_done(name: str) -> None:
    watched = WatchedStore(some_image().build_store())
    with vhdx.open(watched, "r+") as disk:
        for offset, length in ((8 * MIB, 1), (8 * MIB - 1, 2), (-1, 1), (0, 9 * MIB), (1 << 70, 1)):
            with pytest.raises(vhdx.RequestError):
                if name == "write":
                    disk.pwrite(bytes(length), offset)
                else:
                    getattr(disk, name)(length, offset)
        with pytest.raises(vhdx.RequestError):
            disk.trim(-1, 0)
    assert watched.calls == []


def test_dirty_image_is_left_as_it_is_until_the_first_change() -> None:
    image = unlogged()
    image.dirty_log(*grow_then_zero(image))
    store = image.build_store()
    before = file_bytes(store)
    with vhdx.open(store, "r+") as disk:
        assert disk.pread(disk.size, 0) == applied(GROWN, ZEROED)
        disk.flush()
    assert file_bytes(store) == before


@pytest.mark.parametrize("change", ["in place", "allocate", "trim"])
def test_first_change_replays_a_dirty_log_onto_disk(change: str) -> None:
    image = unlogged()
    image.dirty_log(*grow_then_zero(image))
    image.log_entries[-1].last_file_offset = image.length() + 5 * MIB
    store = image.build_store()
    expected = bytearray(applied(GROWN, ZEROED))
    with vhdx.open(store, "r+") as disk:
        if change == "trim":
            disk.trim(MIB, GROWN * MIB)
            expected[GROWN * MIB : (GROWN + 1) * MIB] = bytes(MIB)
        else:
            at = (GROWN if change == "in place" else ZEROED) * MIB + 700
            disk.pwrite(b"new", at)
            expected[at : at + 3] = b"new"
        assert store.size() >= image.length() + 5 * MIB
        assert {header.log_guid for header in headers(store)} == {ZERO_GUID}
        assert disk.pread(disk.size, 0) == expected
    assert chain_bytes([store], 0, len(expected)) == expected
    assert faults(store) == []


def test_guids_of_the_file_change_once_in_each_session_that_writes() -> None:
    store = some_image().build_store()
    seen = [current_header(store)]
    for _ in range(2):
        with vhdx.open(store, "r+") as disk:
            disk.pwrite(b"n", 5)
            first = current_header(store)
            disk.pwrite(b"n", 3 * MIB)
            disk.flush()
            disk.trim(MIB, 0, fua=True)
            last = current_header(store)
        assert (first.file_write_guid, first.data_write_guid) == (last.file_write_guid, last.data_write_guid)
        seen.append(current_header(store))
    assert len({header.file_write_guid for header in seen}) == 3
    assert len({header.data_write_guid for header in seen}) == 3
    both = headers(store)
    assert len({(header.file_write_guid, header.data_write_guid, header.log_guid) for header in both}) == 1
    assert abs(both[0].sequence_number - both[1].sequence_number) == 1


def test_log_is_in_use_only_from_the_first_commit_of_a_table_to_the_close() -> None:
    store = some_image().build_store()
    with vhdx.open(store, "r+") as disk:
        disk.pwrite(b"n", 5)
        disk.flush()
        assert {header.log_guid for header in headers(store)} == {ZERO_GUID}, "writing in place needs no log"
        disk.pwrite(b"n", 3 * MIB)
        assert {header.log_guid for header in headers(store)} == {ZERO_GUID}
        disk.flush()
        (log_guid,) = {header.log_guid for header in headers(store)}
        assert log_guid != ZERO_GUID
        disk.pwrite(b"n", 4 * MIB, fua=True)
        assert {header.log_guid for header in headers(store)} == {log_guid}
    assert {header.log_guid for header in headers(store)} == {ZERO_GUID}


def test_nobody_writes_to_the_first_64_kib_nor_to_the_parents() -> None:
    parent = some_image()
    parent.name = "parent"
    watched = [WatchedStore(image.build_store()) for image in (ImageBuilder.child_of(parent), parent)]
    with vhdx.open(watched[0], "r+", parents=watched[1:]) as disk:
        disk.pwrite(b"n", 5, fua=True)
        disk.trim(MIB, 0)
        disk.write_zeroes(MIB, MIB)
    assert watched[1].calls == []
    assert all(call.file_offset >= 64 * 1024 for call in watched[0].calls if call.name != "flush")


def test_image_without_a_log_gets_one() -> None:
    image = some_image()
    image.each_header(log_length=0, log_offset=0)
    image.content.append((MIB, b"where a log once was" * 1000))
    store = image.build_store()
    with vhdx.open(store, "r+") as disk:
        disk.pwrite(b"n" * 512, 3 * MIB)
        disk.flush()
        log = current_header(store)
        assert (log.log_length, log.log_offset) == (MIB, MIB)
    assert log.log_offset != block_entry(store, 3)[1]
    assert chain_bytes([store], 3 * MIB, 512) == b"n" * 512
    assert faults(store) == []


@pytest.mark.parametrize("damaged", [0, 1])
def test_damaged_header_is_written_anew(damaged: int) -> None:
    image = some_image()
    image.headers[damaged].bad_checksum = True
    store = image.build_store()
    with vhdx.open(store, "r+") as disk:
        disk.pwrite(b"n", 0)
    assert len(headers(store)) == 2
    assert faults(store) == []


@pytest.mark.parametrize("wound", ["first", "second", "differ"])
def test_damaged_copy_of_the_region_table_is_written_anew(wound: str) -> None:
    image = some_image()
    if wound == "differ":
        image.region_tables[1].regions.reverse()
    else:
        image.region_tables[wound == "second"].bad_checksum = True
    store = image.build_store()
    with vhdx.open(store, "r+") as disk:
        disk.pwrite(b"n", 0)
    first, second = (pread(store, REGION_TABLE_SIZE, offset) for offset in REGION_TABLE_FILE_OFFSETS)
    assert first == second
    assert faults(store) == []
    assert chain_bytes([store], 0, 2) == b"no"


def test_log_version_of_an_empty_log_is_made_right() -> None:
    image = some_image()
    image.each_header(log_version=1)
    store = image.build_store()
    with vhdx.open(store, "r+") as disk:
        disk.pwrite(b"n", 3 * MIB)
    assert current_header(store).log_version == 0
    assert faults(store) == []


@pytest.mark.parametrize("suffix", [".rct", ".mrt"])
def test_image_whose_changes_are_tracked_is_written_only_when_asked(tmp_path: Path, suffix: str) -> None:
    path, side = tmp_path / "disk.vhdx", tmp_path / f"disk.vhdx{suffix}"
    create(path, 8 * MIB)
    side.write_bytes(b"tracking")
    before = path.read_bytes()
    with pytest.raises(vhdx.ImageStateError, match="tracks"):
        vhdx.open(path, "r+")
    with vhdx.open(path) as disk:
        assert disk.pread(4, 0) == bytes(4)
    assert path.read_bytes() == before
    with vhdx.open(path, "r+", ignore_change_tracking=True) as disk:
        disk.pwrite(b"n", 0)
    assert side.read_bytes() == b"tracking"
    with vhdx.open(path) as disk:
        assert disk.pread(1, 0) == b"n"


@pytest.mark.parametrize("side", ["linked/disk.vhdx.rct", "real.vhdx.rct"])
def test_image_whose_changes_are_tracked_is_known_through_a_symbolic_link(tmp_path: Path, side: str) -> None:
    (tmp_path / "linked").mkdir()
    real, link = tmp_path / "real.vhdx", tmp_path / "linked/disk.vhdx"
    create(real, 8 * MIB)
    link.symlink_to("../real.vhdx")
    (tmp_path / side).touch()
    with pytest.raises(vhdx.ImageStateError, match="tracks"):
        vhdx.open(link, "r+")
    (tmp_path / side).unlink()
    vhdx.open(link, "r+").close()


def test_reading_image_refuses_changes() -> None:
    watched = WatchedStore(some_image().build_store())
    with vhdx.open(watched) as disk:
        with pytest.raises(vhdx.ReadOnlyImageError):
            disk.pwrite(b"n", 0)
        with pytest.raises(vhdx.ReadOnlyImageError):
            disk.write_zeroes(1, 0)
        with pytest.raises(vhdx.ReadOnlyImageError):
            disk.trim(1, 0)
        disk.flush()
    with pytest.raises(vhdx.ImageClosedError):
        disk.pwrite(b"n", 0)
    assert watched.calls == []


def test_replay_that_was_refused_is_refused_for_writing_too() -> None:
    image = unlogged()
    image.dirty_log(grow(image))
    watched = WatchedStore(image.build_store())
    with pytest.raises(vhdx.LogReplayRequiredError):
        vhdx.open(watched, "r+", replay="refuse")
    with pytest.raises(ValueError, match="ignore"):
        vhdx.open(watched, "r+", replay="ignore")
    assert watched.calls == []


def test_writer_opens_a_memory_store_that_somebody_else_closes() -> None:
    store = MemoryStore(some_image().build())
    vhdx.open(store, "r+").close()
    assert store.size() > 0


def test_header_and_dirtiness_are_those_of_the_file_at_every_moment() -> None:
    image = unlogged()
    image.dirty_log(*grow_then_zero(image))
    store = image.build_store()
    with vhdx.open(store, "r+") as disk:
        leaf = disk.images[0]

        def tells_the_truth(*, dirty: bool) -> None:
            assert leaf.header == current_header(store)
            assert leaf.is_dirty is disk.is_dirty is dirty

        tells_the_truth(dirty=True)
        disk.pwrite(b"n", 0)
        tells_the_truth(dirty=False)
        disk.trim(MIB, GROWN * MIB)
        tells_the_truth(dirty=False)
        disk.flush()
        tells_the_truth(dirty=True)
    tells_the_truth(dirty=False)


def test_read_that_a_replay_overtakes_does_not_see_the_new_log() -> None:
    image = some_image()
    target = image.add_block(5, b"o" * MIB)
    image.dirty_log(image.change(target, b"L" * 4096 + b"M" * 4096))
    watched = WatchedStore(image.build_store())
    disk = vhdx.open(watched, "r+")
    log = disk.images[0].header
    overtaken: list[int] = []

    def overtake(call: StoreCall) -> None:
        if log.log_offset <= call.file_offset < log.log_offset + log.log_length and not overtaken:
            overtaken.append(call.file_offset)
            disk.trim(MIB, 0)
            for block in range(1, 4):
                disk.pwrite(b"n" * 512, block * MIB, fua=True)

    watched.before_read = overtake
    assert disk.pread(8192, 5 * MIB) == b"L" * 4096 + b"M" * 4096
    assert overtaken
    disk.close()
    assert faults(watched) == []
