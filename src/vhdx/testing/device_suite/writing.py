"""Tests of what `WritableDevice` promises beyond `BlockDevice`, for devices that are open for writing."""

from __future__ import annotations

import errno
import random
from array import array
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import pytest

from vhdx.blockdev.device import Ability
from vhdx.errors import ImageClosedError, RequestError
from vhdx.testing.device_suite.reading import DeviceSuite
from vhdx.testing.device_suite.truth import assert_extents_are_true, outside, probes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from vhdx.blockdev.device import WritableDevice

_WRITERS = 3
_PIECE = 700
"""Bytes that a thread writes between those of the others: no whole number of sectors."""


class WritableDeviceSuite(DeviceSuite):
    """Inherit and define `open_device`; see the package."""

    def open_device(self, folder: Path) -> tuple[WritableDevice, bytes]:
        """A new device that is open for writing, and what it holds."""
        raise NotImplementedError

    def test_written_bytes_are_read_back_and_nothing_else_changes(
        self, device: WritableDevice, content: bytearray
    ) -> None:
        numbers = random.Random(1)
        for number, (offset, length) in enumerate(probes(device)[1:]):
            data = numbers.randbytes(length)
            device.pwrite(data, offset, fua=number % 8 == 1)
            content[offset : offset + length] = data
            near = max(0, offset - 5000)
            assert device.pread(length, offset) == data
            assert device.pread(offset - near, near) == content[near:offset]
        assert device.pread(device.size, 0) == content
        assert device.size == len(content)
        device.flush()
        assert device.pread(device.size, 0) == content

    def test_zeroed_ranges_read_as_zeroes_and_nothing_else_changes(
        self, device: WritableDevice, content: bytearray
    ) -> None:
        for number, (offset, length) in enumerate(probes(device)[1:]):
            device.write_zeroes(length, offset, may_unmap=number % 2 == 0, fua=number % 8 == 1)
            content[offset : offset + length] = bytes(length)
            assert device.pread(device.size, 0) == content, f"{length} bytes at {offset}"
        assert_extents_are_true(device, content)

    def test_trimmed_ranges_read_as_before_or_as_zeroes(
        self, device: WritableDevice, content: bytearray
    ) -> None:
        """If `limits` says that the device trims natively, whole units read as zeroes. Nothing else changes."""
        for offset, length in reversed(probes(device)):
            device.trim(length, offset)
            self._take_over_trim(device, content, offset, length)
            assert device.pread(device.size, 0) == content
        assert_extents_are_true(device, content)

    def _take_over_trim(self, device: WritableDevice, content: bytearray, offset: int, length: int) -> None:
        found = device.pread(length, offset)
        for at in range(0, length, 512):
            piece = found[at : at + 512]
            before = content[offset + at : offset + at + len(piece)]
            if piece != before and any(piece):
                assert all(new in (0, old) for new, old in zip(piece, before, strict=True))
        content[offset : offset + length] = found
        if device.limits.trim is Ability.NATIVE:
            unit = device.limits.allocation_size
            end = offset + length
            first, last = -(-offset // unit) * unit, end if end == device.size else end // unit * unit
            assert not any(content[first:last]), f"whole units from {first} to {last} are not zero"

    def test_trim_and_fast_zeroes_do_what_the_limits_say(
        self, device: WritableDevice, content: bytearray
    ) -> None:
        """A whole unit becomes a hole if the ability is native; otherwise it stays, or the request is refused."""
        unit = device.limits.allocation_size
        for call in ("trim", "zero"):
            device.pwrite(b"u" * unit, unit)
            content[unit : 2 * unit] = b"u" * unit
            is_done = self._try(device, unit, call)
            ability = device.limits.trim if call == "trim" else device.limits.fast_zero
            assert (ability is Ability.NATIVE) == is_done, f"{call}: {ability}"
            if is_done:
                content[unit : 2 * unit] = bytes(unit)
                assert all(extent.zero and extent.hole for extent in device.extents(unit, unit))
            assert device.pread(device.size, 0) == content

    def _try(self, device: WritableDevice, unit: int, call: str) -> bool:
        if call == "trim":
            device.trim(unit, unit)
            return not any(device.pread(unit, unit))
        try:
            device.write_zeroes(unit, unit, fast_only=True)
        except OSError as error:
            assert error.errno == errno.EOPNOTSUPP
            return False
        return True

    def test_fast_zeroes_are_all_there_or_refused_with_nothing_done(
        self, device: WritableDevice, content: bytearray
    ) -> None:
        for number, (offset, length) in enumerate(reversed(probes(device))):
            try:
                device.write_zeroes(length, offset, may_unmap=number % 2 == 0, fast_only=True)
            except OSError as error:
                assert error.errno == errno.EOPNOTSUPP
            else:
                content[offset : offset + length] = bytes(length)
            assert device.pread(device.size, 0) == content

    def test_any_contiguous_buffer_is_written_and_not_kept(
        self, device: WritableDevice, content: bytearray
    ) -> None:
        """With items of any size, any number of dimensions, read-only or not; one with gaps is refused."""
        numbers = array("I", range(64))
        device.pwrite(numbers, 3)
        content[3 : 3 + 64 * numbers.itemsize] = numbers.tobytes()
        numbers.append(1)  # BufferError while anybody holds a view
        with pytest.raises(RequestError):
            device.pwrite(numbers, device.size - len(numbers))  # items are not bytes
        assert device.size == len(content)
        with memoryview(bytes(range(256)) * 16) as plain, plain.cast("B", (64, 64)) as table:
            device.pwrite(table, 1000)
        content[1000 : 1000 + 4096] = bytes(range(256)) * 16
        with (
            memoryview(b"g" * 16) as plain,
            plain[::2] as gaps,
            pytest.raises((TypeError, BufferError, ValueError)),
        ):
            device.pwrite(gaps, 0)
        assert device.pread(device.size, 0) == content

    def test_change_of_nothing_or_outside_does_nothing(
        self, device: WritableDevice, content: bytearray
    ) -> None:
        """A length of zero is no error, a range outside is one."""
        for offset in (0, 1, device.size):
            device.pwrite(b"", offset)
            device.write_zeroes(0, offset)
            device.write_zeroes(0, offset, fast_only=True, fua=True)
            device.trim(0, offset)
        for offset, length in outside(device.size):
            changes: list[Callable[[], object]] = [
                partial(device.write_zeroes, length, offset),
                partial(device.write_zeroes, length, offset, may_unmap=False),
                partial(device.write_zeroes, length, offset, fast_only=True),
                partial(device.trim, length, offset),
            ]
            if 0 <= length <= 2 * device.size:
                changes.append(partial(device.pwrite, b"o" * length, offset))
            for change in changes:
                with pytest.raises(RequestError):
                    change()
        assert device.pread(device.size, 0) == content

    def test_any_history_leaves_what_a_plain_buffer_has(
        self, device: WritableDevice, content: bytearray
    ) -> None:
        """A random history of writes, zeroes, trims and flushes, from a fixed seed."""
        numbers = random.Random(2)
        ranges = [*probes(device)[1:]]
        for _ in range(150):
            offset, length = numbers.choice(ranges)
            match numbers.choice(("write", "write", "zero", "trim", "flush")):
                case "write":
                    data = numbers.randbytes(length)
                    device.pwrite(data, offset)
                    content[offset : offset + length] = data
                case "zero":
                    device.write_zeroes(length, offset, may_unmap=numbers.random() < 0.5)
                    content[offset : offset + length] = bytes(length)
                case "trim":
                    device.trim(length, offset)
                    self._take_over_trim(device, content, offset, length)
                case _:
                    device.flush()
            assert device.pread(length, offset) == content[offset : offset + length]
        assert device.pread(device.size, 0) == content
        assert_extents_are_true(device, content)

    def test_threads_that_write_side_by_side_lose_no_byte(
        self, device: WritableDevice, content: bytearray
    ) -> None:
        """Not even inside one sector; a read meanwhile returns old bytes or new ones, and no others."""
        for offset, length in _windows(device):
            before = bytes(content[offset : offset + length])
            with ThreadPoolExecutor(_WRITERS + 1) as pool:
                writers = [pool.submit(_write_pieces, device, n, offset, length) for n in range(_WRITERS)]
                reads = pool.submit(_read_meanwhile, device, before, offset, length)
                for future in (*writers, reads):
                    future.result()
            for number, at, count in _pieces(offset, length):
                content[at : at + count] = bytes((0xA0 + number,)) * count
            assert device.pread(device.size, 0) == content

    def test_closed_device_refuses_every_change(self, device: WritableDevice) -> None:
        device.pwrite(b"x", 5)
        device.close()
        calls: list[Callable[[], object]] = [
            lambda: device.pwrite(b"x", 0),
            lambda: device.pwrite(b"", 0),
            lambda: device.write_zeroes(1, 0),
            lambda: device.trim(1, 0),
            device.flush,
        ]
        for call in calls:
            with pytest.raises(ImageClosedError):
                call()


def _windows(device: WritableDevice) -> list[tuple[int, int]]:
    """Ranges (offset, length) that threads write to: across the first unit's end, and at the end of the disk."""
    unit = device.limits.allocation_size
    length = min(60_000, device.size // 2)
    return [(max(0, unit - length // 2), length), (device.size - length, length)]


def _pieces(offset: int, length: int) -> Iterator[tuple[int, int, int]]:
    """(thread, offset, length) of the pieces of a range."""
    for number, at in enumerate(range(offset, offset + length, _PIECE)):
        yield number % _WRITERS, at, min(_PIECE, offset + length - at)


def _write_pieces(device: WritableDevice, number: int, offset: int, length: int) -> None:
    for owner, at, count in _pieces(offset, length):
        if owner == number:
            device.pwrite(bytes((0xA0 + number,)) * count, at)


def _read_meanwhile(device: WritableDevice, before: bytes, offset: int, length: int) -> None:
    after = b"".join(bytes((0xA0 + number,)) * count for number, _, count in _pieces(offset, length))
    for _ in range(10):
        found = device.pread(length, offset)
        wrong = [
            at
            for at, (now, old, new) in enumerate(zip(found, before, after, strict=True))
            if now not in (old, new)
        ]
        assert wrong == [], f"neither old nor new: {wrong[:5]}"
