"""`ranges` names places that hold what a read gives, also where a replay lies over the file."""

import os
import random
from pathlib import Path

import pytest

import vhdx
from support.units import MIB
from vhdx.storage.base import pread_zero_extended
from vhdx.testing import ImageBuilder, zero_change
from vhdx.testing.hostile import BASE_NAMES, base_image

NAMES = [name for name in BASE_NAMES if name != "large-blocks"]


def content_of(disk: vhdx.Disk, offset: int, length: int) -> bytes:
    with disk.ranges(offset, length) as ranges:
        return b"".join(
            bytes(piece.length)
            if piece.store is vhdx.ZERO
            else pread_zero_extended(piece.store, piece.length, piece.file_offset)
            for piece in ranges
        )


@pytest.mark.parametrize("name", NAMES)
def test_pieces_hold_what_a_read_gives(name: str) -> None:
    base = base_image(name)
    chance = random.Random(name)
    with vhdx.open(base.stores[0], parents=base.stores[1:]) as disk:
        assert content_of(disk, 0, disk.size) == disk.pread(disk.size, 0)
        for _ in range(40):
            offset = chance.randrange(disk.size)
            length = chance.randrange(min(70_000, disk.size - offset) + 1)
            assert content_of(disk, offset, length) == disk.pread(length, offset)


def replayed_payload() -> ImageBuilder:
    """A block of which the log replaces some sectors, and zeroes others."""
    image = ImageBuilder(2 * MIB)
    place = image.add_block(0, bytes(range(256)) * 4096)
    image.add_block(1, b"untouched" * (MIB // 9))
    changes = [*image.change(place + 8192, b"new" * 2000), zero_change(place + 65536, 12288)]
    image.dirty_log(changes)
    return image


def test_pieces_under_a_replay_are_never_the_file_itself(tmp_path: Path) -> None:
    path = replayed_payload().write(tmp_path / "disk.vhdx")
    with vhdx.open(path) as disk:
        whole = disk.pread(disk.size, 0)
        assert content_of(disk, 0, disk.size) == whole
        assert whole[8192:14192] == b"new" * 2000
        assert whole[65536 : 65536 + 12288] == bytes(12288)
        position = 0
        direct = 0
        with disk.ranges(0, disk.size) as ranges, path.open("rb") as file:
            for piece in ranges:
                if piece.store is not vhdx.ZERO and piece.store.fileno() is not None:
                    stored = os.pread(file.fileno(), piece.length, piece.file_offset)
                    assert stored.ljust(piece.length, b"\0") == whole[position : position + piece.length]
                    direct += piece.length
                position += piece.length
        assert position == disk.size
        assert direct == disk.size - 8192 - 12288


def test_pieces_of_a_clean_file_are_its_own(tmp_path: Path) -> None:
    image = ImageBuilder(2 * MIB)
    place = image.add_block(1, b"content" * 100)
    path = image.write(tmp_path / "disk.vhdx")
    with vhdx.open(path) as disk, disk.ranges(0, disk.size) as ranges:
        first, second = list(ranges)
        assert (first.store, first.length) == (vhdx.ZERO, MIB)
        assert second.store is not vhdx.ZERO
        assert second.store.fileno() is not None
        assert (second.file_offset, second.length) == (place, MIB)


def test_ranges_outside_the_disk_are_refused() -> None:
    disk = vhdx.open(ImageBuilder(2 * MIB).build_store())
    with pytest.raises(vhdx.RequestError), disk.ranges(MIB, MIB + 1):
        pass
    disk.close()
    with pytest.raises(vhdx.ImageClosedError), disk.ranges(0, 1):
        pass
