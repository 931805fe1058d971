"""Places of a disk's content in its files, while the disk changes."""

import errno
import os
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import vhdx
from support.cases import pattern, sound, sound_child
from support.dirty import unlogged
from support.units import MIB
from vhdx import _host
from vhdx.blockdev.device import Place
from vhdx.errors import CorruptImageError, ImagePoisonedError
from vhdx.ops.create import create
from vhdx.storage.file import FileStore
from vhdx.testing.stores import WatchedStore, fail_on

pytestmark = pytest.mark.skipif(not _host.HAVE_PREADV, reason="this system reads at no offset")


def read(place: Place | None, length: int) -> bytes:
    assert place is not None
    return os.pread(place.fd, length, place.file_offset)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A dynamic image of eight blocks, which are all present and full of their own number."""
    path = tmp_path / "disk.vhdx"
    create(path, 8 * MIB, block_size=MIB)
    with vhdx.open(path, "r+") as disk:
        for block in range(8):
            disk.pwrite(bytes([block + 1]) * MIB, block * MIB)
    return path


def offset_of(disk: vhdx.Disk, block: int) -> int:
    place = disk.place(block * MIB, MIB)
    assert place is not None
    return place.file_offset


def rewrite(disk: vhdx.Disk, block: int) -> int:
    """Give a block's space up for good, and take new space for it: its file offset."""
    disk.trim(MIB, block * MIB)
    disk.flush()
    disk.pwrite(bytes([block + 1]) * MIB, block * MIB)
    return offset_of(disk, block)


def test_space_is_kept_for_the_last_who_may_know_it_and_used_again_afterwards(path: Path) -> None:
    with vhdx.open(path, "r+") as disk:
        disk.pwrite(b"\1", 0)
        first = disk.pin()
        second = disk.pin()
        place = disk.place(0, MIB)
        assert place is not None
        disk.trim(MIB, 0)
        late = disk.pin()  # which cannot know the space any more
        disk.unpin(first)
        disk.flush()
        assert place.file_offset not in {rewrite(disk, block) for block in range(1, 4)}
        assert read(place, MIB) == b"\1" * MIB
        disk.unpin(second)
        disk.flush()
        assert place.file_offset in {rewrite(disk, block) for block in range(1, 5)}
        disk.unpin(late)


def test_space_is_not_given_back_to_the_host_while_it_is_pinned(path: Path) -> None:
    with vhdx.open(path, "r+") as disk:
        disk.pwrite(b"\1", 0)
        pin = disk.pin()
        place = disk.place(0, MIB)
        disk.write_zeroes(MIB, 0)
        for _ in range(3):
            disk.flush()
        assert read(place, MIB) == b"\1" * MIB
        disk.unpin(pin)


def test_what_the_log_holds_has_a_place_once_it_is_in_place(tmp_path: Path) -> None:
    image = unlogged()
    image.dirty_log(image.change(image.content[0][0] + 8192, b"L" * 8192))
    with vhdx.open(image.write(tmp_path / "dirty.vhdx"), "r+") as disk:
        pin = disk.pin()
        assert disk.place(8192, 4096) is None
        assert disk.place(8191, 1) is not None
        before = disk.place(0, 4096)
        assert read(before, 4096) == disk.pread(4096, 0)
        disk.pwrite(b"w", 3 * MIB)
        assert read(disk.place(4096, 16384), 16384) == disk.pread(16384, 4096)
        assert disk.place(0, 4096) == before
        assert disk.pread(8192, 8192) == b"L" * 8192
        disk.unpin(pin)


@pytest.mark.parametrize("mode", ["r", "r+"])
def test_block_of_which_the_unneeded_end_is_cut_off_is_read_the_long_way(tmp_path: Path, mode: str) -> None:
    path = sound().write(tmp_path / "cut.vhdx")
    with vhdx.open(path) as disk:
        last = disk.place(4 * MIB, 4096)
        assert last is not None
        start = last.file_offset
    os.truncate(path, start + MIB // 2)
    with vhdx.open(path, mode) as disk:  # type: ignore[arg-type]
        place = disk.place(4 * MIB, 4096)
        assert place is None or read(place, 4096) == pattern(3)
        assert disk.pread(4096, 4 * MIB) == pattern(3)
    os.truncate(path, start + 8192)
    with vhdx.open(path) as disk:
        assert disk.place(4 * MIB, 16384) is None
        with pytest.raises(CorruptImageError):
            disk.pread(16384, 4 * MIB)


def test_what_the_leaf_takes_over_from_its_parent_gets_a_place_in_the_leaf(tmp_path: Path) -> None:
    child, parent = sound_child()
    parent.write(tmp_path / "parent.vhdx")
    with vhdx.open(child.write(tmp_path / "child.vhdx"), "r+") as disk:
        pin = disk.pin()
        leaf, base = (image.file_store.fileno() for image in disk.images)
        before = disk.place(4 * MIB, 4096)
        assert before is not None
        assert before.fd == base
        assert disk.place(0, 512) is None  # partially present
        disk.pwrite(b"w" * (MIB // 2), 4 * MIB)
        after = disk.place(4 * MIB, 4096)
        assert after is not None
        assert after.fd == leaf
        assert read(after, 4096) == b"w" * 4096
        assert read(before, 4096) == pattern(3)
        disk.unpin(pin)


class WatchedFile(WatchedStore):
    """A watched store whose descriptor is shown."""

    def fileno(self) -> int | None:
        return self.base.fileno()


def test_poisoned_image_gives_no_pins_and_writes_nothing_in_place(path: Path) -> None:
    file = FileStore.open(path, writable=True)
    store = WatchedFile(file)
    disk = vhdx.open(store, "r+")
    disk.pwrite(b"\1", 0)
    assert disk.writes_in_place(0, MIB)
    pin = disk.pin()
    place = disk.place(0, 1)
    disk.trim(MIB, MIB)
    store.before = fail_on("flush", OSError(errno.EIO, "lost"))
    with pytest.raises(OSError, match="lost"):
        disk.flush()
    assert not disk.writes_in_place(0, MIB)
    with pytest.raises(ImagePoisonedError):
        disk.pin()
    assert read(place, 1) == b"\1"
    disk.unpin(pin)
    disk.close()
    file.close()


def test_threads_that_read_from_places_never_see_another_blocks_bytes(path: Path) -> None:
    """Whatever others trim, flush and write meanwhile: a block holds its own number, or zeroes."""
    turns = 120

    def change(disk: vhdx.Disk, seed: int) -> None:
        numbers = random.Random(seed)
        for _ in range(turns):
            block = numbers.randrange(4 * seed, 4 * seed + 4)
            disk.trim(MIB, block * MIB)
            if numbers.random() < 0.7:
                disk.flush()
            disk.pwrite(bytes([block + 1]) * MIB, block * MIB)

    def look(disk: vhdx.Disk, seed: int) -> int:
        numbers, seen = random.Random(seed), 0
        for _ in range(turns):
            pin = disk.pin()
            blocks = numbers.sample(range(8), 4)
            places = [disk.place(block * MIB, MIB) for block in blocks]
            for block, place in zip(blocks, places, strict=True):
                if place is not None:
                    seen += 1
                    for _ in range(2):
                        found = read(place, MIB)
                        assert found.count(0) + found.count(block + 1) == MIB, (
                            f"block {block}: another's bytes"
                        )
            disk.unpin(pin)
        return seen

    with vhdx.open(path, "r+") as disk, ThreadPoolExecutor(4) as pool:
        changes = [pool.submit(change, disk, seed) for seed in range(2)]
        looks = [pool.submit(look, disk, seed) for seed in range(2)]
        for future in changes:
            future.result()
        assert all(future.result() for future in looks)
        assert disk.pread(8 * MIB, 0) == b"".join(bytes([block + 1]) * MIB for block in range(8))
