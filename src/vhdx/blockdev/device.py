"""The block device protocol: what readers, servers and converters need to know of any disk.

Contracts that every device keeps:

* Byte granular. Offsets are virtual offsets in bytes. Calls may come from several threads at once; once a
  call has returned, every later call on any thread sees its effect.
* A range that is not inside [0, size) raises RequestError with nothing done; length zero does nothing.
* `pread_into` takes any writable C-contiguous buffer, fills all of it or raises, and does not keep it.
* Abilities are told by `limits`, not discovered by failing.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeAlias

from vhdx.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vhdx._buffer import Buffer
    from vhdx.blockdev.extent import Extent
    from vhdx.storage.base import ByteStore


class Ability(Enum):
    """How a device does something."""

    NATIVE = "native"
    EMULATED = "emulated"
    NONE = "none"


class Limits(NamedTuple):
    """What a device can do, and in which units it does it best. Sizes in bytes."""

    minimum_io_size: int
    """Requests that are multiples of this are not padded inside (the logical sector size)."""
    preferred_io_size: int
    """Requests that are multiples of this are fastest (the physical sector size)."""
    allocation_size: int
    """Unit in which space is taken and given back (the block size)."""
    writable: bool = False
    fua: Ability = Ability.NONE
    trim: Ability = Ability.NONE
    write_zeroes: Ability = Ability.NONE
    fast_zero: Ability = Ability.NONE
    ranges: Ability = Ability.NONE
    block_status: Ability = Ability.NONE


MAX_READ_AHEAD: Final = 32 << 20
"""Bytes at the start of a range that `cache` acts on; asking for more at once only pushes other data out."""


DiskReader: TypeAlias = "Callable[[int, int], bytes]"
"""`BlockDevice.pread` of some disk: (length, virtual offset) to bytes."""


class _Zero(Enum):
    ZERO = "zero"


ZERO: Final = _Zero.ZERO
"""Stands in for a store in a `Range` that reads as zeroes."""


class Range(NamedTuple):
    """Where a piece of a device's content can be had without copying it through Python. Lengths in bytes.

    `store` is ZERO, or a store from which `length` bytes at `file_offset` are the content: through its
    `fileno()` if it has one, else through its `pread_into`.
    """

    store: ByteStore | _Zero
    file_offset: int
    length: int


class BlockDevice(Protocol):
    """A disk that can be read. See the module's contract."""

    @property
    def size(self) -> int:
        """Length in bytes."""
        ...

    @property
    def limits(self) -> Limits:
        """Abilities and preferred sizes."""
        ...

    def pread(self, length: int, offset: int) -> bytes:
        """Read `length` bytes at a virtual offset."""
        ...

    def pread_into(self, buffer: Buffer, offset: int) -> None:
        """Fill a buffer from a virtual offset."""
        ...

    def cache(self, length: int, offset: int) -> None:
        """Say that a range will be read soon. A hint: it changes nothing, and fails only for a wrong range."""
        ...

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        """Tell what a range holds, in order and without gaps, neighbours that are alike joined."""
        ...

    def ranges(self, offset: int, length: int) -> AbstractContextManager[Iterator[Range]]:
        """Tell where the content of a range lies; the places stay valid until the context ends."""
        ...

    def close(self) -> None:
        """Give up the device's resources; calling it twice does nothing."""
        ...


class WritableDevice(BlockDevice, Protocol):
    """A disk that can be changed, if `limits.writable`. What a call changed is durable after `flush`.

    An error part-way may leave any mix of old and new inside the range, and nothing outside it.
    """

    def pwrite(self, data: Buffer, offset: int, *, fua: bool = False) -> None:
        """Write bytes at a virtual offset. `fua`: durable when the call returns."""
        ...

    def write_zeroes(
        self,
        length: int,
        offset: int,
        *,
        may_unmap: bool = True,
        fua: bool = False,
        fast_only: bool = False,
    ) -> None:
        """Make a range read as zeroes; `fast_only`: OSError (EOPNOTSUPP) where data would have to be written."""
        ...

    def trim(self, length: int, offset: int, *, fua: bool = False) -> None:
        """Say that a range's content is not needed."""
        ...

    def flush(self) -> None:
        """Make everything durable whose call has returned."""
        ...


class Place(NamedTuple):
    """Where a piece of a device's content stands in an open file: for os.preadv, os.sendfile and the like."""

    fd: int
    file_offset: int


class DirectDevice(WritableDevice, Protocol):
    """A device whose content can mostly be read from open files: for servers of many small requests.

    A server takes a pin, asks for places, transfers, and gives the pin back: from `pin` to `unpin`, file
    space that `place` has named is not given to anything else, whoever trims it meanwhile.
    """

    def pin(self) -> int:
        """Keep what `place` will say true until `unpin`."""
        ...

    def unpin(self, pin: int) -> None:
        """Nothing that was placed under this pin is used any more."""
        ...

    def place(self, offset: int, length: int) -> Place | None:
        """Where a range stands as a whole; None if only `pread_into` can tell. Raises: OSError."""
        ...

    def writes_in_place(self, offset: int, length: int) -> bool:
        """Whether writing a range only overwrites what is there: no tables change, and nothing is waited for."""
        ...


def check_range(size: int, offset: int, length: int) -> None:
    """Refuse a range that is not inside a device of `size` bytes.

    Raises: RequestError.
    """
    if offset < 0 or length < 0 or offset + length > size:
        raise RequestError(f"range of {length} bytes at {offset} is outside a disk of {size} bytes")


def clip_length(size: int, offset: int, length: int | None) -> int:
    """Length of a checked range, where None means up to the end of the device.

    Raises: RequestError.
    """
    wanted = size - offset if length is None else length
    check_range(size, offset, wanted)
    return wanted
