"""Tests of what `BlockDevice` promises."""

from __future__ import annotations

from array import array
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from vhdx.errors import ImageClosedError, ReadOnlyImageError, RequestError
from vhdx.testing.device_suite.truth import (
    assert_extents_are_true,
    assert_ranges_are_true,
    clipped,
    outside,
    probes,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from vhdx.blockdev.device import BlockDevice

_THREADS = 4
_REFUSED_BUFFER = (TypeError, BufferError, ValueError)


class DeviceSuite:
    """Inherit and define `open_device`; see the package."""

    def open_device(self, folder: Path) -> tuple[BlockDevice, bytes]:
        """A new device, whose files may lie in `folder`, and what it holds."""
        raise NotImplementedError

    @pytest.fixture
    def opened(self, tmp_path: Path) -> Iterator[tuple[BlockDevice, bytes]]:
        """The device and its content; the device is closed after the test."""
        device, content = self.open_device(tmp_path)
        yield device, content
        device.close()

    @pytest.fixture
    def device(self, opened: tuple[BlockDevice, bytes]) -> BlockDevice:
        """The device under test."""
        return opened[0]

    @pytest.fixture
    def content(self, opened: tuple[BlockDevice, bytes]) -> bytearray:
        """What the device holds, to be changed along with it."""
        return bytearray(opened[1])

    def test_content_is_read_as_a_whole_and_in_any_piece(
        self, device: BlockDevice, content: bytearray
    ) -> None:
        assert device.size == len(content)
        for offset, length in probes(device):
            expected = content[offset : offset + length]
            data = device.pread(length, offset)
            assert type(data) is bytes
            assert data == expected, f"{length} bytes at {offset}"
            buffer = bytearray(b"?" * length)
            device.pread_into(buffer, offset)
            assert buffer == expected, f"{length} bytes at {offset}, into a buffer"

    def test_any_writable_buffer_is_filled_and_not_kept(
        self, device: BlockDevice, content: bytearray
    ) -> None:
        """Buffers with items of any size and with any number of dimensions."""
        numbers = array("I", [0] * 64)
        device.pread_into(numbers, 2)
        assert numbers.tobytes() == content[2 : 2 + 64 * numbers.itemsize]
        numbers.append(1)  # BufferError while anybody holds a view
        with pytest.raises(RequestError):
            device.pread_into(numbers, device.size - len(numbers))  # items are not bytes
        plain = bytearray(4096 + 2)
        with memoryview(plain)[1:-1] as inner, inner.cast("B", (64, 64)) as table:
            device.pread_into(table, 512)
        assert plain == b"\0" + content[512 : 512 + 4096] + b"\0"
        plain.append(1)

    def test_buffer_that_cannot_be_filled_is_refused(self, device: BlockDevice) -> None:
        """A read-only one, and one with gaps."""
        with pytest.raises(_REFUSED_BUFFER):
            device.pread_into(bytes(8), 0)
        spaced = bytearray(b"?" * 16)
        with memoryview(spaced) as view, view[::2] as gaps, pytest.raises(_REFUSED_BUFFER):
            device.pread_into(gaps, 0)
        assert spaced == b"?" * 16

    def test_length_of_zero_does_nothing(self, device: BlockDevice) -> None:
        for offset in (0, 1, device.size):
            assert device.pread(0, offset) == b""
            device.pread_into(bytearray(), offset)
            device.cache(0, offset)
            assert list(device.extents(offset, 0)) == []
            with device.ranges(offset, 0) as ranges:
                assert list(ranges) == []
        assert list(device.extents(device.size)) == []

    def test_range_outside_is_refused_at_once(self, device: BlockDevice) -> None:
        for offset, length in outside(device.size):
            with pytest.raises(RequestError):
                device.pread(length, offset)
            with pytest.raises(RequestError):
                device.cache(length, offset)
            with pytest.raises(RequestError):
                device.extents(offset, length)
            with pytest.raises(RequestError), device.ranges(offset, length):
                pass
            if 0 <= length <= 4096:
                buffer = bytearray(b"?" * length)
                with pytest.raises(RequestError):
                    device.pread_into(buffer, offset)
                assert buffer == b"?" * length

    def test_cache_is_a_hint_that_changes_nothing(self, device: BlockDevice, content: bytearray) -> None:
        for offset, length in probes(device):
            device.cache(length, offset)
        assert device.pread(device.size, 0) == content

    def test_extents_cover_the_device_and_are_true(self, device: BlockDevice, content: bytearray) -> None:
        assert_extents_are_true(device, content)

    def test_extents_of_a_part_are_a_part_of_the_extents(self, device: BlockDevice) -> None:
        whole = list(device.extents())
        for offset, length in probes(device):
            assert list(device.extents(offset, length)) == list(clipped(whole, offset, length))
        middle = device.size // 2
        assert list(device.extents(middle)) == list(clipped(whole, middle, device.size))

    def test_ranges_have_the_content(self, device: BlockDevice, content: bytearray) -> None:
        for offset, length in probes(device):
            assert_ranges_are_true(device, content, offset, length)

    def test_many_threads_may_read_at_once(self, device: BlockDevice, content: bytearray) -> None:

        def read(number: int) -> bool:
            right = True
            for offset, length in probes(device)[number:] * 2:
                right &= device.pread(length, offset) == content[offset : offset + length]
                right &= sum(extent.length for extent in device.extents(offset, length)) == length
            return right

        with ThreadPoolExecutor(_THREADS) as pool:
            assert all(pool.map(read, range(_THREADS)))

    def test_limits_are_sizes_that_the_device_can_have(self, device: BlockDevice) -> None:
        limits = device.limits
        sizes = (limits.minimum_io_size, limits.preferred_io_size, limits.allocation_size)
        assert all(size > 0 and size & (size - 1) == 0 for size in sizes)
        assert limits.minimum_io_size <= min(sizes)
        assert device.size % limits.minimum_io_size == 0

    def test_device_that_is_not_writable_refuses_every_change(self, device: Any, content: bytearray) -> None:
        if device.limits.writable or not hasattr(device, "pwrite"):
            return
        changes: list[Callable[[], object]] = [
            lambda: device.pwrite(b"x", 0),
            lambda: device.write_zeroes(1, 0),
            lambda: device.trim(device.size, 0),
        ]
        for change in changes:
            with pytest.raises(ReadOnlyImageError):
                change()
        device.flush()
        assert device.pread(device.size, 0) == content

    def test_closed_device_refuses_every_call_but_another_close(self, device: BlockDevice) -> None:
        device.close()
        device.close()
        calls: list[Callable[[], object]] = [
            lambda: device.pread(1, 0),
            lambda: device.pread(0, 0),
            lambda: device.pread_into(bytearray(1), 0),
            lambda: device.cache(1, 0),
            device.extents,
            lambda: device.ranges(0, 1).__enter__(),
        ]
        for call in calls:
            with pytest.raises(ImageClosedError):
                call()
