"""The two kinds of files that a disk is copied into: a raw disk, and a new VHDX."""

from typing import Final, Protocol

from vhdx._units import MIB
from vhdx.engine.new_image import ImageWriter
from vhdx.errors import RequestError
from vhdx.format.metadata import DiskParameters
from vhdx.ops.copying.destination import Destination
from vhdx.ops.copying.source_walk import Unit
from vhdx.ops.copying.unit_order import UnitOrder
from vhdx.storage.base import ByteStore
from vhdx.storage.zeroes import reserve_space

_RAW_UNIT_SIZE: Final = 16 * MIB
"""What one worker copies in one go, in bytes: enough to forget the cost of asking where it lies."""


class Target(Protocol):
    """A new disk in the making. Several workers fill it, each unit of the disk by one of them.

    A unit of which nothing is written needs no place, unless `writes_all`. Every unit ends with `give_up`.
    """

    @property
    def store(self) -> ByteStore:
        """The file that is written."""
        ...

    @property
    def unit_size(self) -> int:
        """Into what units the disk is to be divided, in bytes."""
        ...

    @property
    def is_blank(self) -> bool:
        """Whether the place of a unit reads as zeroes. If not, all of it has to be written."""
        ...

    @property
    def writes_all(self) -> bool:
        """Whether units without any data have to be written, too: as zeroes."""
        ...

    def place(self, number: int, unit: Unit) -> int:
        """Tell where the `number`-th unit begins in the file. Called once, before its first byte is written.

        Raises: Stopped, OSError (ENOSPC).
        """
        ...

    def space_of(self, unit: Unit) -> int:
        """How many bytes of the file belong to a unit: at least its length."""
        ...

    def give_up(self, number: int) -> None:
        """The `number`-th unit has its place, or needs none."""
        ...

    def stop(self) -> None:
        """Let whoever waits in `place`, now or later, raise Stopped."""
        ...

    def finish(self) -> None:
        """Everything has been copied: write the rest of the file, and make it durable."""
        ...


class RawTarget:
    """A raw disk: every byte lies at its virtual offset."""

    unit_size = _RAW_UNIT_SIZE

    def __init__(self, opened: Destination, size: int, *, preallocate: bool) -> None:
        """Raises: RequestError for a device that is too small, OSError."""
        self.store, capacity = opened
        self.is_blank = capacity is None
        self.writes_all = not self.is_blank
        if capacity is not None and capacity < size:
            raise RequestError(f"{self.store.name}: {capacity} bytes are too few for a disk of {size} bytes")
        if self.is_blank:
            self.store.truncate(size)
            if preallocate and size:
                reserve_space(self.store, size)

    def place(self, number: int, unit: Unit) -> int:  # noqa: ARG002 - the order does not matter here
        """The unit's virtual offset."""
        return unit.offset

    def space_of(self, unit: Unit) -> int:
        """As long as the unit."""
        return unit.length

    def give_up(self, number: int) -> None:
        """Nobody waits."""

    def stop(self) -> None:
        """Nobody waits."""

    def finish(self) -> None:
        """Make it durable."""
        self.store.flush()


class ImageTarget:
    """A VHDX. A unit is a payload block, so that a block that turns out to be zeroes gets no space.

    Blocks get their space in the order of the disk, so that reading the disk reads the file from start to end.
    """

    def __init__(self, opened: Destination, parameters: DiskParameters, *, preallocate: bool) -> None:
        """Raises: RequestError for a device that is too small, OSError."""
        self.store, capacity = opened
        self.unit_size = parameters.block_size
        self._writer = ImageWriter(self.store, parameters, capacity=capacity)
        self._order = UnitOrder()
        self.is_blank = self._writer.is_blank
        self.writes_all = parameters.is_fixed and not self.is_blank
        if preallocate:
            self._writer.preallocate()

    def place(self, number: int, unit: Unit) -> int:
        """The block's space: in a fixed image known beforehand, else the next free one, in its turn."""
        block = unit.offset // self.unit_size
        if self._writer.parameters.is_fixed:
            return self._writer.place_block(block)
        self._order.wait(number)
        file_offset = self._writer.place_block(block)
        self._order.give_up(number)
        return file_offset

    def space_of(self, unit: Unit) -> int:  # noqa: ARG002 - every block has the same
        """A block, however little of it the disk needs."""
        return self.unit_size

    def give_up(self, number: int) -> None:
        """Let the next block have its place."""
        self._order.give_up(number)

    def stop(self) -> None:
        """Wake those who wait for their turn."""
        self._order.stop()

    def finish(self) -> None:
        """Make it an image, and durable."""
        self._writer.finish()
