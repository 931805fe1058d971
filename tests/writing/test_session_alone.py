"""A writing session without a disk above it: what whoever changes a file in another way than by blocks relies on."""

import pytest

import vhdx
from support.dirty import grow_then_zero
from support.units import MIB
from support.written_images import current_header, faults, headers
from vhdx.engine.bat_table import BatTable
from vhdx.engine.opening import open_image
from vhdx.engine.opening_for_writing import judge_for_writing
from vhdx.engine.page_cache import PAGE_SIZE, PageCache, PageChange
from vhdx.engine.session.session import WriteSession
from vhdx.engine.tuning import DEFAULT_TUNING
from vhdx.format.guids import VIRTUAL_DISK_ID
from vhdx.report import Report
from vhdx.storage.base import ByteStore, pread
from vhdx.testing import ImageBuilder
from vhdx.testing.stores import HostStore, fail_on

NEW_ID = bytes(range(16))


def session_of(store: ByteStore, *, keeps_content: bool = False) -> WriteSession:
    report = Report(store.name)
    opened = open_image(store, report)
    bat = BatTable(PageCache(opened.store), opened.regions.bat, opened.geometry)
    summary = judge_for_writing(opened, bat, report, store, ignore_change_tracking=False)
    return WriteSession(opened, summary, store, bat.pages, DEFAULT_TUNING, keeps_content=keeps_content)


def new_disk_id(session: WriteSession) -> PageChange:
    """The change of an item of metadata."""
    opened = session.opened
    item = next(entry for entry in opened.metadata.entries if entry.item_id == VIRTUAL_DISK_ID)
    return PageChange(opened.regions.metadata.file_offset + item.offset, NEW_ID)


def image_with_data() -> ImageBuilder:
    image = ImageBuilder(8 * MIB)
    image.add_block(1, b"data")
    return image


def test_a_change_of_metadata_is_there_when_the_file_is_opened_next() -> None:
    store = image_with_data().build_store()
    session = session_of(store)
    session.change([new_disk_id(session)])
    session.end()
    assert faults(store) == []
    with vhdx.open(store) as disk:
        assert disk.disk_id.bytes_le == NEW_ID
        assert disk.pread(4, MIB) == b"data"


def test_a_change_that_is_flushed_outlives_a_session_that_never_ends() -> None:
    store = image_with_data().build_store()
    session = session_of(store)
    session.change([new_disk_id(session)])
    session.flush()
    with vhdx.open(store) as disk:
        assert disk.is_dirty
        assert disk.disk_id.bytes_le == NEW_ID


def test_a_change_begins_the_session_so_that_what_a_log_holds_is_not_lost() -> None:
    image = image_with_data()
    image.dirty_log(*grow_then_zero(image))
    store = image.build_store()
    with vhdx.open(store) as disk:
        before = disk.pread(disk.size, 0)
    session = session_of(store)
    session.change([new_disk_id(session)])
    session.flush()
    with vhdx.open(store) as disk:
        assert disk.pread(disk.size, 0) == before
        assert disk.disk_id.bytes_le == NEW_ID


def test_taking_space_begins_the_session() -> None:
    store = image_with_data().build_store()
    old = current_header(store)
    session_of(store).take(MIB)
    for header in headers(store):
        assert header.file_write_guid != old.file_write_guid
        assert header.data_write_guid != old.data_write_guid


def test_children_still_know_a_parent_whose_content_has_been_kept() -> None:
    parent = image_with_data()
    child = ImageBuilder.child_of(parent)
    stores = [parent.build_store(), child.build_store()]
    old = current_header(stores[0])
    session = session_of(stores[0], keeps_content=True)
    session.change([new_disk_id(session)])
    session.end()
    header = current_header(stores[0])
    assert header.file_write_guid != old.file_write_guid
    assert header.data_write_guid == old.data_write_guid
    with vhdx.open(stores[1], parents=[stores[0]]) as disk:
        assert disk.pread(4, MIB) == b"data"


def test_children_refuse_a_parent_whose_content_may_have_changed() -> None:
    parent = image_with_data()
    child = ImageBuilder.child_of(parent)
    stores = [parent.build_store(), child.build_store()]
    session = session_of(stores[0])
    session.change([new_disk_id(session)])
    session.end()
    with pytest.raises(vhdx.ParentMismatchError):
        vhdx.open(stores[1], parents=[stores[0]])


def test_a_change_that_no_entry_of_the_log_can_take_is_refused_with_nothing_changed() -> None:
    store = image_with_data().build_store()
    session = session_of(store)
    space = session.take_for_tables(MIB)
    with pytest.raises(ValueError, match="at most 126 are changed at once"):
        session.change([new_disk_id(session), PageChange(space.file_offset, b"x" * (126 * PAGE_SIZE))])
    session.change([PageChange(space.file_offset, b"x" * (126 * PAGE_SIZE))])
    session.end()
    with vhdx.open(store) as disk:
        assert disk.disk_id.bytes_le != NEW_ID
    assert pread(store, 126 * PAGE_SIZE, space.file_offset) == b"x" * (126 * PAGE_SIZE)


def test_space_for_tables_reads_as_zeroes_and_is_free_again_if_it_cannot_be_made_so() -> None:
    image = image_with_data()
    image.content.append((image.allocate(MIB), b"garbage" * 1000))
    image.add_block(2, b"more")
    store = HostStore(image.build_store())
    session = session_of(store)
    store.before = fail_on("write_zeroes", OSError("no zeroes today"))
    with pytest.raises(OSError, match="no zeroes"):
        session.take_for_tables(MIB)
    store.before = lambda _: None
    space = session.take_for_tables(MIB)
    assert not space.known_zero
    assert pread(store, MIB, space.file_offset) == bytes(MIB)
    assert session.take(MIB).file_offset > space.file_offset
