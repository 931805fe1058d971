"""Tests of what `DirectDevice` promises beyond `WritableDevice`."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

import pytest

from vhdx.errors import ImageClosedError
from vhdx.testing.device_suite.reading import DeviceSuite
from vhdx.testing.device_suite.truth import outside, probes
from vhdx.testing.device_suite.writing import WritableDeviceSuite

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from vhdx.blockdev.device import DirectDevice, Place


class PlaceSuite(DeviceSuite):
    """The part of `DirectDeviceSuite` that holds for a device that is open for reading, too."""

    has_places: ClassVar[bool] = True
    """Whether the device stands in a file that can be read at an offset: then some range must have a place."""

    def open_device(self, folder: Path) -> tuple[DirectDevice, bytes]:
        """A new device, and what it holds."""
        raise NotImplementedError

    def test_what_stands_at_a_place_is_the_content(self, device: DirectDevice, content: bytearray) -> None:
        """Where an extent names a place as well, it is the same one."""
        places = 0
        with _pinned(device):
            for offset, length in [*probes(device), *((e.offset, e.length) for e in device.extents())]:
                place = device.place(offset, length)
                if place is None:
                    continue
                places += 1
                assert _read(place, length) == content[offset : offset + length]
                extents = list(device.extents(offset, length))
                if len(extents) == 1 and extents[0].file_offset is not None:
                    assert extents[0].file_offset == place.file_offset
        assert bool(places) == self.has_places

    def test_what_is_no_range_has_no_place(self, device: DirectDevice) -> None:
        """A range outside the device, or an empty one; and a write there is no write in place."""
        if device.limits.writable:
            device.pwrite(device.pread(1, 0), 0)  # a device may begin a session with its first write
        with _pinned(device):
            for offset, length in [*outside(device.size), (0, 0), (device.size, 0)]:
                assert device.place(offset, length) is None
            for offset, length in outside(device.size):
                assert not device.writes_in_place(offset, length)

    def test_device_that_is_not_writable_writes_nothing_in_place(self, device: DirectDevice) -> None:
        if not device.limits.writable:
            assert not any(device.writes_in_place(offset, length) for offset, length in probes(device))

    def test_closed_device_has_no_places(self, device: DirectDevice) -> None:
        """Not even under a pin that was taken before, nor for a range that has been written."""
        if device.limits.writable:
            device.pwrite(b"w" * device.limits.allocation_size, 0)
            assert device.writes_in_place(0, 1)
        pin = device.pin()
        device.close()
        for offset, length in probes(device):
            assert device.place(offset, length) is None
            assert not device.writes_in_place(offset, length)
        device.unpin(pin)
        with pytest.raises(ImageClosedError):
            device.pin()


class DirectDeviceSuite(PlaceSuite, WritableDeviceSuite):
    """Inherit and define `open_device`; see the package."""

    def open_device(self, folder: Path) -> tuple[DirectDevice, bytes]:
        """A new device that is open for writing, and what it holds."""
        raise NotImplementedError

    def test_written_units_have_places_which_writes_in_place_keep(
        self, device: DirectDevice, content: bytearray
    ) -> None:
        """What a write in place has written is found where the old content stood."""
        unit = device.limits.allocation_size
        device.pwrite(b"u" * unit, unit)
        content[unit : 2 * unit] = b"u" * unit
        in_place = 0
        with _pinned(device):
            assert (device.place(unit, unit) is not None) == self.has_places
            assert device.writes_in_place(unit, unit)
            for offset, length in probes(device)[1:]:
                before = device.place(offset, length)
                claimed = device.writes_in_place(offset, length)
                device.pwrite(b"p" * length, offset)
                content[offset : offset + length] = b"p" * length
                if claimed:
                    in_place += 1
                    assert device.place(offset, length) == before
                    assert before is None or _read(before, length) == b"p" * length
        assert in_place
        assert device.pread(device.size, 0) == content

    def test_what_gave_up_its_space_is_not_written_in_place(self, device: DirectDevice) -> None:
        """A write needs new space where a unit has lost its own."""
        unit = device.limits.allocation_size
        for give_up in (device.trim, device.write_zeroes):
            device.pwrite(b"u" * unit, unit)
            give_up(unit, unit)
            has_place = device.place(unit, unit) is not None
            assert device.writes_in_place(unit, unit) == has_place or not self.has_places

    def test_space_that_was_placed_is_given_to_nothing_else_until_it_is_unpinned(
        self, device: DirectDevice
    ) -> None:
        """Even if it is trimmed, flushed, and new space is taken meanwhile."""
        unit = device.limits.allocation_size
        count = min(4, device.size // unit)
        for number in range(count):
            device.pwrite(b"u" * unit, number * unit)
        device.flush()
        with _pinned(device):
            places = [device.place(number * unit, unit) for number in range(count)]
            for letter in b"abc":
                device.trim(count * unit, 0)
                stays = _places(device, count, unit) == places
                device.flush()
                device.pwrite(bytes((letter,)) * (count * unit), 0)
                device.flush()
                for place in filter(None, places):
                    # If the content has stayed where it was, what is written shows there; otherwise it must not.
                    assert stays or set(_read(place, unit)) <= {0, ord("u")}
        for letter in b"de":
            device.trim(count * unit, 0)
            device.flush()
            device.pwrite(bytes((letter,)) * (count * unit), 0)
            assert device.pread(count * unit, 0) == bytes((letter,)) * (count * unit)


def _places(device: DirectDevice, count: int, unit: int) -> list[Place | None]:
    return [device.place(number * unit, unit) for number in range(count)]


def _read(place: Place, length: int) -> bytes:
    return os.pread(place.fd, length, place.file_offset)


@contextmanager
def _pinned(device: DirectDevice) -> Iterator[None]:
    pin = device.pin()
    try:
        yield
    finally:
        device.unpin(pin)
