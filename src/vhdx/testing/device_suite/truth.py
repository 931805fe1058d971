"""Ranges to try on a device, and whether what it says of them is true, its content being known."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from vhdx.blockdev.device import ZERO
from vhdx.blockdev.extent import coalesce
from vhdx.storage.base import pread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vhdx._buffer import Buffer
    from vhdx.blockdev.device import BlockDevice
    from vhdx.blockdev.extent import Extent


def probes(device: BlockDevice) -> list[tuple[int, int]]:
    """Ranges at which mistakes show: at the ends, and across and beside the boundaries of units. (offset, length)."""
    size, limits = device.size, device.limits
    sector = max(limits.minimum_io_size, 512)
    step = max(limits.allocation_size, size // 16)
    step -= step % limits.allocation_size
    wanted = [(0, size), (0, 1), (size - 1, 1), (size // 2 - 5, 10_000), (sector, sector), (3, size - 5)]
    for boundary in (*range(0, size, step), size):
        wanted += [
            (boundary - 3, 7),
            (boundary - sector, 2 * sector),
            (boundary, 4096),
            (boundary - 5000, 70_001),
        ]
    clipped = ((max(0, offset), min(size, offset + length)) for offset, length in wanted)
    return [(start, end - start) for start, end in clipped if start < end]


def outside(size: int) -> list[tuple[int, int]]:
    """Ranges that are not inside a device, (offset, length)."""
    return [
        *((size, 1), (0, size + 1), (size - 1, 2), (-1, 1), (-1, size + 2), (5, -1), (0, -size)),
        *((size + 1, 0), (-1, 0), (1 << 62, 512), (1 << 63, 1), (0, 1 << 64), (1 << 64, 1 << 64)),
    ]


def assert_extents_are_true(device: BlockDevice, content: Buffer) -> None:
    """Extents cover the device in order, are joined where they are alike, and call zero only what is."""
    extents = list(device.extents())
    position = 0
    for extent in extents:
        assert extent.offset == position
        assert extent.length > 0
        position = extent.end
        _assert_extent_is_true(device, extent, content)
    assert position == device.size
    assert list(coalesce(extents)) == extents, "neighbours that are alike are not joined"


def _assert_extent_is_true(device: BlockDevice, extent: Extent, content: Buffer) -> None:
    assert extent.depth >= 0
    assert extent.present or extent.hole, f"{extent}: it is data, and yet no file decides what is read"
    assert extent.file_offset is None or extent.data, f"{extent}: a place in a file without data"
    if extent.unreadable:
        with pytest.raises(Exception, match=r"."):
            device.pread(extent.length, extent.offset)
    elif extent.zero:
        with memoryview(content) as view, view[extent.offset : extent.end] as part:
            assert not any(part), f"{extent}: not zero"


def clipped(extents: list[Extent], offset: int, length: int) -> Iterator[Extent]:
    """The part of extents that lies in a range."""
    for extent in extents:
        start, end = max(extent.offset, offset), min(extent.end, offset + length)
        if start < end:
            place = None if extent.file_offset is None else extent.file_offset + start - extent.offset
            yield extent._replace(offset=start, length=end - start, file_offset=place)


def assert_ranges_are_true(device: BlockDevice, content: Buffer, offset: int, length: int) -> None:
    """Ranges cover what was asked for, and have its content, by their store and by its descriptor."""
    position = offset
    with device.ranges(offset, length) as ranges:
        for store, file_offset, count in ranges:
            assert count > 0
            with memoryview(content) as view:
                expected = bytes(view[position : position + count])
            position += count
            if store is ZERO:
                assert not any(expected)
                continue
            assert pread(store, count, file_offset) == expected
            fd = store.fileno()
            if fd is not None and hasattr(os, "pread"):
                assert os.pread(fd, count, file_offset) == expected
    assert position == offset + length
