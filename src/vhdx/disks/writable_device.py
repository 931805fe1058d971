"""Layers whose leaf may be open for writing: the changing half of a disk's calls."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from vhdx.blockdev.device import Ability, Limits, Range, check_range
from vhdx.disks.layered_device import LayeredDevice
from vhdx.errors import ImageClosedError, ReadOnlyImageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vhdx._buffer import Buffer
    from vhdx.blockdev.extent import Extent
    from vhdx.disks.layer import Layer
    from vhdx.engine.blocks.requests import Requests


class WritableLayers(LayeredDevice):
    """A block device that can be changed if its leaf was opened in mode "r+"; parents never change.

    Every change raises RequestError for a range outside the disk, with nothing done; ReadOnlyImageError,
    ImageClosedError, ImagePoisonedError; ParentNotFoundError where a part of a sector needs a parent that is
    absent; and OSError. An error part-way may leave any mix of old and new in the range, sector by sector.
    Changes are durable after `flush`, `close`, or their own `fua=True`.
    """

    def __init__(self, layers: tuple[Layer, ...], writer: Requests | None = None) -> None:
        super().__init__(layers)
        self._writer = writer
        if writer is not None:
            # The short way of reading takes no ticket: it is for images that nobody changes.
            self._end = 0

    @property
    def writable(self) -> bool:
        """Whether the leaf is open for writing."""
        return self._writer is not None

    def pwrite(self, data: Buffer, offset: int, *, fua: bool = False) -> None:
        """Write bytes at a virtual offset. Any C-contiguous buffer, not kept."""
        with memoryview(data) as whole, whole.cast("B") as view:
            writer = self._change(offset, len(view))
            writer.write(view, offset, self.pread)
        self._after(writer, fua=fua)

    def write_zeroes(
        self,
        length: int,
        offset: int,
        *,
        may_unmap: bool = True,
        fua: bool = False,
        fast_only: bool = False,
    ) -> None:
        """Make a range read as zeroes; whole blocks give up their file space if `may_unmap`.

        `fast_only` raises OSError (EOPNOTSUPP), with nothing done, where data would have to be written.
        """
        writer = self._change(offset, length)
        if fast_only:
            writer.check_fast_zeroes(offset, length, may_unmap=may_unmap)
        writer.write_zeroes(offset, length, self.pread, may_unmap=may_unmap)
        self._after(writer, fua=fua)

    def trim(self, length: int, offset: int, *, fua: bool = False) -> None:
        """Say that a range's content is not needed: whole blocks read as zeroes, parts stay as they are."""
        writer = self._change(offset, length)
        writer.trim(offset, length)
        self._after(writer, fua=fua)

    def cache(self, length: int, offset: int) -> None:
        """As for every device. Raises: ImagePoisonedError, too."""
        if self._writer is not None and not self._closed:
            self._writer.check_sound()
        super().cache(length, offset)

    def flush(self) -> None:
        """Make everything durable whose call has returned. Nothing to do for an image open for reading."""
        self._check_open()
        if self._writer is not None:
            self._writer.flush()

    def _change(self, offset: int, length: int) -> Requests:
        self._check_open()
        if self._writer is None:
            raise ReadOnlyImageError(f"{self._layers[0].name}: the image is open for reading; use mode 'r+'")
        check_range(self.size, offset, length)
        return self._writer

    def _after(self, writer: Requests, *, fua: bool) -> None:
        if fua:
            writer.flush()

    def _fill(self, view: memoryview, offset: int) -> None:
        writer = self._writer
        if writer is None:
            super()._fill(view, offset)
            return
        if self._closed:
            raise ImageClosedError(f"{self._layers[0].name}: the image is closed")
        writer.check_sound()
        ticket = writer.in_flight.begin()
        try:
            super()._fill(view, offset)
        finally:
            writer.in_flight.end(ticket)

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        """As for every device. Raises: ImagePoisonedError, too."""
        if self._writer is not None and not self._closed:
            self._writer.check_sound()
        return super().extents(offset, length)

    @contextmanager
    def ranges(self, offset: int, length: int) -> Iterator[Iterator[Range]]:
        """As for every device; space that a range names is not used for anything else until the context ends."""
        writer = self._writer
        if writer is None:
            with super().ranges(offset, length) as found:
                yield found
            return
        writer.check_sound()
        ticket = writer.in_flight.pin()
        try:
            with super().ranges(offset, length) as found:
                yield found
        finally:
            writer.in_flight.end(ticket)

    def pin(self) -> int:
        """Keep what `place` will say true until `unpin`. Raises: ImageClosedError, ImagePoisonedError."""
        self._check_open()
        writer = self._writer
        if writer is None:
            return 0
        writer.check_sound()
        return writer.in_flight.pin()

    def unpin(self, pin: int) -> None:
        """Nothing that was placed under this pin is used any more."""
        if self._writer is not None:
            self._writer.in_flight.end(pin)

    def writes_in_place(self, offset: int, length: int) -> bool:
        """Whether writing a range only overwrites what is there: no tables change, nothing is waited for."""
        writer = self._writer
        if writer is None or self._closed or offset < 0 or length < 0 or offset + length > self.size:
            return False
        return writer.writes_in_place(offset, length)


def writing_limits(limits: Limits, *, keeps_space: bool) -> Limits:
    """The limits of a device that is open for writing, from those for reading."""
    zero = Ability.EMULATED if keeps_space else Ability.NATIVE
    return limits._replace(
        writable=True,
        fua=Ability.EMULATED,
        trim=Ability.NONE if keeps_space else Ability.NATIVE,
        write_zeroes=zero,
        fast_zero=Ability.NONE if keeps_space else Ability.NATIVE,
    )
