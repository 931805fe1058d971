"""A device that fails: what an error leaves, when the image goes on, and when it must be opened again."""

import errno
import os
from collections.abc import Callable

import pytest

import vhdx
from support.dirty import GROWN, ZEROED, applied, grow_then_zero, unlogged
from support.units import MIB
from support.written_images import assert_sound, block_entry, faults, file_bytes
from vhdx.format.bat import PayloadState
from vhdx.storage.memory import MemoryStore
from vhdx.testing import ImageBuilder, zero_change
from vhdx.testing.crash import Content
from vhdx.testing.stores import HostStore, StoreCall, WatchedStore, fail_on

Change = Callable[[vhdx.Disk], object]


def error_of(number: int) -> OSError:
    return OSError(number, os.strerror(number), "device")


def image_with_content(*, child: bool = False) -> tuple[list[WatchedStore], Content]:
    """A chain whose blocks 0 and 1 hold something, over dirty space; and its content."""
    model = Content(size=8 * MIB)
    parent = ImageBuilder(8 * MIB, name="parent")
    if child:
        parent.add_block(2, b"p" * MIB)
        model.write(b"p" * MIB, 2 * MIB)
    image = ImageBuilder.child_of(parent, block_size=MIB) if child else ImageBuilder(8 * MIB)
    for block in (0, 1):
        image.add_block(block, b"o" * MIB)
        model.write(b"o" * MIB, block * MIB)
    image.content.append((image.allocate(2 * MIB), b"\xd1" * 2 * MIB))
    images = [image, parent] if child else [image]
    return [WatchedStore(each.build_store()) for each in images], model


def write_beginnings(disk: vhdx.Disk) -> None:
    for block in range(2, 8):
        disk.pwrite(b"n", block * MIB)


NO_SPACE: dict[str, tuple[Change, str]] = {
    "payload of a part": (lambda disk: disk.pwrite(b"n" * 512, 2 * MIB), "pwrite"),
    "payload of a block": (lambda disk: disk.pwrite(b"n" * MIB, 2 * MIB), "pwrite"),
    "zeroes around a part": (lambda disk: disk.pwrite(b"n" * 512, 2 * MIB), "write_zeroes"),
    "zeroes of a block": (lambda disk: disk.write_zeroes(MIB, 2 * MIB, may_unmap=False), "pwrite"),
    "growth": (write_beginnings, "truncate"),
}


@pytest.mark.parametrize("kind", ["partially present", "soft anchor"])
def test_block_keeps_the_space_that_a_write_into_it_failed_to_fill(kind: str) -> None:
    parent = ImageBuilder(8 * MIB, name="parent")
    image = (
        ImageBuilder.child_of(parent, block_size=MIB)
        if kind == "partially present"
        else ImageBuilder(8 * MIB)
    )
    if kind == "partially present":
        place = image.add_partial_block(2, {3: b"o" * 512})
    else:
        place = image.allocate(image.geometry.block_size)
        image.set_block(2, PayloadState.UNMAPPED, place)
    store = WatchedStore(image.build_store())
    block_size = image.geometry.block_size
    with vhdx.open(store, "r+", parents=[WatchedStore(parent.build_store())]) as disk:
        store.before = fail_on("pwrite", error_of(errno.EIO), above=place)
        with pytest.raises(OSError, match="error"):
            disk.pwrite(b"n" * 512, 2 * block_size)
        store.before = lambda _: None
        disk.pwrite(b"x" * block_size, 0)
        disk.pwrite(b"y" * block_size, block_size)
        if kind == "partially present":
            assert disk.pread(512, 2 * block_size + 3 * 512) == b"o" * 512
        disk.pwrite(b"n" * 512, 2 * block_size)
        assert disk.pread(1, 0) == b"x"
        assert disk.pread(1, block_size) == b"y"
    assert faults(store) == []


@pytest.mark.parametrize("child", [False, True])
@pytest.mark.parametrize("name", NO_SPACE)
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_failed_payload_is_an_os_error_and_the_image_goes_on(name: str, child: bool, error: int) -> None:
    stores, model = image_with_content(child=child)
    change, call = NO_SPACE[name]
    disk = vhdx.open(stores[0], "r+", parents=stores[1:])
    disk.pwrite(b"k" * 512, 0, fua=True)
    model.write(b"k" * 512, 0)
    stores[0].before = fail_on(call, error_of(error), above=4 * MIB)
    with pytest.raises(OSError, match=os.strerror(error)) as caught:
        change(disk)
    assert caught.value.errno == error
    stores[0].before = lambda _: None
    if name == "growth":
        for block in (2, 3):
            if disk.pread(1, block * MIB) == b"n":
                model.write(b"n", block * MIB)
    assert disk.pread(8 * MIB, 0) == model.read(8 * MIB, 0), "what failed has changed nothing"
    disk.flush()
    disk.pwrite(b"n" * 700, 2 * MIB)
    disk.pwrite(b"n" * MIB, 6 * MIB)
    model.write(b"n" * 700, 2 * MIB)
    model.write(b"n" * MIB, 6 * MIB)
    disk.close()
    assert_sound(stores, model)


def test_space_of_a_failed_write_is_used_by_the_next_one() -> None:
    stores, model = image_with_content()
    size = stores[0].size()
    with vhdx.open(stores[0], "r+") as disk:
        for _ in range(20):
            stores[0].before = fail_on("pwrite", error_of(errno.ENOSPC), above=4 * MIB)
            with pytest.raises(OSError, match="space"):
                disk.pwrite(b"n" * MIB, 2 * MIB)
            stores[0].before = lambda _: None
        disk.pwrite(b"n" * MIB, 2 * MIB)
        model.write(b"n" * MIB, 2 * MIB)
    assert stores[0].size() == size, "what was free in the file is enough"
    assert_sound(stores, model)


def session_calls(disk: vhdx.Disk) -> dict[str, Change]:
    """Everything that can be asked of a disk."""
    return {
        "write": lambda disk: disk.pwrite(b"x", 0),
        "empty write": lambda disk: disk.pwrite(b"", 0),
        "zero": lambda disk: disk.write_zeroes(512, 0),
        "trim": lambda disk: disk.trim(512, 0),
        "flush": lambda disk: disk.flush(),
        "read": lambda disk: disk.pread(1, 0),
        "ranges": lambda disk: disk.ranges(0, 1).__enter__(),
        "extents": lambda disk: disk.extents(),
    }


POISONING = {
    "session start, first header": ("start", "pwrite", 1),
    "session start, first flush": ("start", "flush", 1),
    "session start, second flush": ("start", "flush", 2),
    "log start, empty entry": ("commit", "pwrite", 1),
    "commit, payload flush": ("commit", "flush", 1),
    "commit, log start": ("commit", "flush", 2),
    "commit, log header": ("commit", "flush", 3),
    "commit, entry": ("second commit", "pwrite", 2),
    "commit, page in place": ("second commit", "pwrite", 3),
    "commit, entry flush": ("second commit", "flush", 2),
    "close, pages in place": ("close", "flush", 1),
    "close, header": ("close", "flush", 2),
    "close, second header": ("close", "pwrite", 2),
}


@pytest.mark.parametrize(
    "error", [error_of(errno.EIO), error_of(errno.ENOSPC), KeyboardInterrupt()], ids=repr
)
@pytest.mark.parametrize("name", POISONING)
def test_failure_inside_a_commit_poisons_and_the_next_open_finds_everything(
    name: str, error: BaseException
) -> None:
    when, call, nth = POISONING[name]
    stores, model = image_with_content()
    watched = stores[0]
    disk = vhdx.open(watched, "r+")
    step = _steps(disk, model)
    for each in ("start", "commit", "second commit"):
        if each == when:
            break
        step[each]()
    watched.before = fail_on(call, error, nth=nth)
    with pytest.raises(type(error)):
        disk.close() if when == "close" else step[when]()
    watched.before = lambda _: None
    assert_poisoned(disk, watched, closed=when == "close")
    # What had not been flushed may or may not be there; what had been is.
    with vhdx.open(watched, "r+") as again:
        found = again.pread(512, 3 * MIB)
        assert found in (b"2" * 512, bytes(512))
        if when == "close":
            assert found == b"2" * 512
        again.pwrite(b"3" * 512, 3 * MIB)
        first = again.pread(512, 2 * MIB)
        assert first == b"1" * 512 or when in ("start", "commit")
    model.write(first, 2 * MIB)
    model.write(b"3" * 512, 3 * MIB)
    assert_sound(stores, model)


def _steps(disk: vhdx.Disk, model: Content) -> dict[str, Callable[[], object]]:
    return {
        "start": lambda: disk.pwrite(b"1" * 512, 2 * MIB),
        "commit": disk.flush,
        "second commit": lambda: disk.pwrite(b"2" * 512, 3 * MIB, fua=True),
    }


def assert_poisoned(disk: vhdx.Disk, watched: WatchedStore, *, closed: bool) -> None:
    """Every call fails, and closing writes nothing."""
    before, calls = file_bytes(watched), len(watched.calls)
    if not closed:
        for change in session_calls(disk).values():
            with pytest.raises(vhdx.ImagePoisonedError, match="open it again"):
                change(disk)
    disk.close()
    assert len(watched.calls) == calls
    assert file_bytes(watched) == before


def test_failed_replay_poisons_and_the_next_open_replays_again() -> None:
    for nth in range(1, 6):
        image = unlogged()
        image.dirty_log(*grow_then_zero(image))
        watched = WatchedStore(image.build_store())
        disk = vhdx.open(watched, "r+")
        watched.before = fail_on("flush", error_of(errno.EIO), nth=nth)
        with pytest.raises(OSError, match="error"):
            disk.pwrite(b"n", 0)
        watched.before = lambda _: None
        assert_poisoned(disk, watched, closed=False)
        with vhdx.open(watched) as again:
            assert again.pread(again.size, 0) == applied(GROWN, ZEROED)


def test_interrupt_while_payload_is_written_leaves_a_usable_image() -> None:
    stores, model = image_with_content()
    with vhdx.open(stores[0], "r+") as disk:
        disk.pwrite(b"k", 0)
        stores[0].before = fail_on("pwrite", KeyboardInterrupt(), above=4 * MIB)
        with pytest.raises(KeyboardInterrupt):
            disk.pwrite(b"n" * MIB, 2 * MIB)
        stores[0].before = lambda _: None
        assert disk.pread(MIB, 2 * MIB) == bytes(MIB)
        disk.pwrite(b"n" * 512, 3 * MIB)
    model.write(b"k", 0)
    model.write(b"n" * 512, 3 * MIB)
    assert_sound(stores, model)


def test_state_of_a_block_whose_write_failed_is_as_before() -> None:
    stores, _ = image_with_content()
    with vhdx.open(stores[0], "r+") as disk:
        disk.trim(MIB, MIB)
        disk.flush()
        stores[0].before = fail_on("pwrite", error_of(errno.ENOSPC), above=4 * MIB)
        with pytest.raises(OSError, match="space"):
            disk.pwrite(b"n" * MIB, MIB)
        stores[0].before = lambda _: None
    assert isinstance(stores[0].base, MemoryStore)
    assert block_entry(stores[0].base, 1) == (PayloadState.UNMAPPED, 0)


RESERVING: dict[str, Callable[[ImageBuilder], object]] = {
    "log": lambda image: None,
    "missing log": lambda image: image.each_header(log_length=0, log_offset=0),
    "damaged region table": lambda image: setattr(image.region_tables[1], "bad_checksum", True),
    "damaged header": lambda image: setattr(image.headers[0], "bad_checksum", True),
    "dirty log": lambda image: image.dirty_log(image.change(image.bat_offset + 8 * 5, b"\2")),
}


@pytest.mark.parametrize("call", ["reserve", "truncate"])
@pytest.mark.parametrize("kind", RESERVING)
def test_host_that_is_full_when_a_session_begins_is_a_plain_error_with_nothing_done(
    kind: str, call: str
) -> None:
    image = ImageBuilder(8 * MIB)
    image.add_block(0, b"o" * MIB)
    RESERVING[kind](image)
    store = HostStore(image.build_store())
    before, nth = file_bytes(store), 0
    disk = vhdx.open(store, "r+")
    while True:
        nth += 1
        store.before = fail_on(call, error_of(errno.ENOSPC), nth=nth)
        try:
            disk.pwrite(b"n" * 512, 700)
        except OSError as error:
            assert error.errno == errno.ENOSPC
            after = file_bytes(store)
            # But for the length, and the GUIDs in the headers where space was sought after they had been changed.
            headers = {-1, 65536, 131072}
            assert all(before.get(at) == after.get(at) for at in (before.keys() | after.keys()) - headers)
            assert before[-1] == after[-1] or call == "reserve"
            assert disk.pread(MIB, 0) == b"o" * MIB
        else:
            break
    assert nth > 1 or call == "truncate"
    store.before = lambda _: None
    disk.pwrite(b"n" * 512, 3 * MIB)
    disk.close()
    assert faults(store) == []
    with vhdx.open(store) as again:
        assert again.pread(512, 700) == again.pread(512, 3 * MIB) == b"n" * 512


def test_host_that_refuses_to_take_space_back_does_not_fail_a_flush() -> None:
    image = ImageBuilder(8 * MIB)
    for block in range(4):
        image.add_block(block, b"o" * MIB)
    store = HostStore(image.build_store())
    with vhdx.open(store, "r+") as disk:
        disk.trim(2 * MIB, 0)
        store.before = fail_on("punch_hole", error_of(errno.EIO))
        disk.flush()
        disk.pwrite(b"n" * MIB, 6 * MIB)
        assert disk.pread(2 * MIB, 0) == bytes(2 * MIB)
    assert faults(store) == []


def test_file_grows_by_what_is_needed_where_it_cannot_grow_by_more() -> None:
    store = WatchedStore(ImageBuilder(64 * MIB).build_store())
    limit = store.size() + 3 * MIB

    def before(call: StoreCall) -> None:
        if call.name == "truncate" and call.file_offset > limit:
            raise error_of(errno.EFBIG)

    store.before = before
    disk = vhdx.open(store, "r+")
    for block in range(3):
        disk.pwrite(b"n", block * MIB)
    with pytest.raises(OSError, match="large"):
        disk.pwrite(b"n", 3 * MIB)
    disk.close()
    assert store.size() == limit
    assert faults(store) == []


def test_bitmap_in_space_that_was_punched_gets_host_space_again() -> None:
    stores, _ = image_with_content(child=True)
    store = HostStore(stores[0].base)
    disk = vhdx.open(store, "r+", parents=stores[1:])
    disk.pwrite(b"k", 0, fua=True)
    # The bitmap gets its space, the entry that would name it does not.
    store.before = fail_on("reserve", error_of(errno.ENOSPC), nth=2)
    with pytest.raises(OSError, match="space"):
        disk.pwrite(b"n" * 512, 5 * MIB)
    store.before = lambda _: None
    store.calls.clear()
    disk.pwrite(b"n" * 512, 5 * MIB)
    entry = disk.images[0].bat.bitmap_entry(0)
    reserved = {call.file_offset for call in store.calls if call.name == "reserve"}
    assert entry & ~0xFFFFF in reserved
    disk.close()
    assert faults(store) == []


def test_table_that_a_replay_punched_gets_host_space_before_it_changes() -> None:
    image = ImageBuilder(8 * MIB)
    image.add_block(0, b"o" * MIB)
    # What the entry writes is reserved first; what it zeroes is punched then, and lies in the same unit.
    image.dirty_log([zero_change(image.bat_offset, 4096), *image.change(image.bat_offset + 4096, b"\0")])
    store = HostStore(image.build_store())
    with vhdx.open(store, "r+") as disk:
        disk.pwrite(b"n" * 512, 3 * MIB)
        disk.flush()
    calls = [call.name for call in store.calls if _covers(call, image.bat_offset)]
    assert calls[calls.index("write_zeroes") :] == ["write_zeroes", "reserve", "pwrite"]


def _covers(call: StoreCall, file_offset: int) -> bool:
    return call.file_offset <= file_offset < call.file_offset + call.length
