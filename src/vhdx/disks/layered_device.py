"""Reading through layers: a leaf and its parents as one block device. What a layer is: see `layer`."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING, Final

from vhdx import _host
from vhdx.blockdev.device import MAX_READ_AHEAD, ZERO, Ability, Limits, Place, Range, check_range, clip_length
from vhdx.blockdev.extent import Extent, coalesce
from vhdx.blockdev.span import Span, SpanKind
from vhdx.disks.layer import LEFT_TO_PARENT, resolve
from vhdx.disks.stream import DeviceStream
from vhdx.errors import FormatError, ImageClosedError, ParentNotFoundError
from vhdx.storage.base import StoreKind, read_ahead, reader_of
from vhdx.storage.overlay import OverlayStore
from vhdx.storage.zeroes import fill_zeroes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from vhdx._buffer import Buffer
    from vhdx.disks.layer import Layer
    from vhdx.storage.base import ByteStore

_MAX_HINTS: Final = 1024
"""Pieces that one `cache` looks at; sector by sector, a range can be of very many."""


class LayeredDevice:
    """The block device that layers make, leaf first. See `blockdev.device` for the contract."""

    def __init__(self, layers: tuple[Layer, ...]) -> None:
        leaf = layers[0]
        self._layers = layers
        self._closed = False
        self._end = leaf.size
        """Where the short way of reading ends: the virtual size, or 0 once the device is closed."""
        self._leaf_place = leaf.plain_file_offset
        # Looked up once: a server asks for a place with each request.
        self._placing = tuple((layer, layer.size, layer.plain_file_offset) for layer in layers)
        self._leaf_read = reader_of(leaf.store)

    @property
    def size(self) -> int:
        """Virtual size in bytes."""
        return self._layers[0].size

    @property
    def limits(self) -> Limits:
        """Abilities and preferred sizes."""
        raise NotImplementedError

    def pread(self, length: int, offset: int) -> bytes:
        """Read `length` bytes at a virtual offset.

        Raises: RequestError (range), CorruptImageError, ParentNotFoundError, ImageClosedError, OSError.
        """
        # The short way, for a range in one plain block; what it cannot judge, the long way does.
        if offset >= 0 and length > 0 and offset + length <= self._end:
            file_offset = self._leaf_place(offset, length)
            if file_offset >= 0:
                data = self._leaf_read(length, file_offset)
                if len(data) == length:
                    return data
        check_range(self.size, offset, length)
        buffer = bytearray(length)
        self._fill(memoryview(buffer), offset)
        return bytes(buffer)

    def pread_into(self, buffer: Buffer, offset: int) -> None:
        """Fill a writable C-contiguous buffer from a virtual offset. Raises: as `pread`."""
        view = memoryview(buffer).cast("B")
        check_range(self.size, offset, len(view))
        self._fill(view, offset)

    def _fill(self, view: memoryview, offset: int) -> None:
        self._check_open()
        length = len(view)
        if not length:
            return
        file_offset = self._leaf_place(offset, length)
        if file_offset >= 0 and self._layers[0].store.pread_into(view, file_offset) == length:
            return
        for depth, span in resolve(self._layers, offset, length):
            start = span.offset - offset
            part = view[start : start + span.length]
            if span.kind is SpanKind.DATA:
                layer = self._layers[depth]
                if layer.store.pread_into(part, span.file_offset) != span.length:
                    raise self._shrunk(layer)
            elif span.kind is SpanKind.PARENT:
                raise self._absent(depth, span)
            else:
                fill_zeroes(part)

    def cache(self, length: int, offset: int) -> None:
        """Say that a range will be read soon; of a long one the beginning counts. What is absent is no error.

        Raises: RequestError, ImageClosedError.
        """
        self._check_open()
        check_range(self.size, offset, length)
        # The read itself will tell what is wrong with an entry.
        with suppress(FormatError, OSError):
            pieces = resolve(self._layers, offset, min(length, MAX_READ_AHEAD))
            for depth, span in islice(pieces, _MAX_HINTS):
                if span.kind is SpanKind.DATA:
                    read_ahead(self._layers[depth].store, span.length, span.file_offset)

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        """Tell what a range holds, from metadata alone, neighbours that are alike joined.

        Raises: RequestError, ImageClosedError at once; CorruptImageError, OSError while iterating.
        """
        self._check_open()
        return coalesce(self._extents(offset, clip_length(self.size, offset, length)))

    def _extents(self, offset: int, length: int) -> Iterator[Extent]:
        for depth, span in resolve(self._layers, offset, length):
            is_data = span.kind is SpanKind.DATA
            yield Extent(
                span.offset,
                span.length,
                zero=span.kind in (SpanKind.ZERO, SpanKind.UNALLOCATED),
                hole=not is_data,
                present=is_data or span.kind is SpanKind.ZERO,
                depth=depth,
                file_offset=span.file_offset if is_data else None,
            )

    @contextmanager
    def ranges(self, offset: int, length: int) -> Iterator[Iterator[Range]]:
        """Tell where the content of a range lies, for copying without passing it through Python.

        Raises: RequestError, ImageClosedError at once; CorruptImageError, ParentNotFoundError, OSError while
        iterating.
        """
        self._check_open()
        check_range(self.size, offset, length)
        yield self._ranges(offset, length)

    def _ranges(self, offset: int, length: int) -> Iterator[Range]:
        for depth, span in resolve(self._layers, offset, length):
            if span.kind is SpanKind.DATA:
                yield from _store_ranges(self._layers[depth].store, span.file_offset, span.length)
            elif span.kind is SpanKind.PARENT:
                raise self._absent(depth, span)
            else:
                yield Range(ZERO, 0, span.length)

    def place(self, offset: int, length: int) -> Place | None:
        """Where a range stands as a whole in one of the files; None if only `pread_into` can tell.

        Raises: OSError.
        """
        end = offset + length
        if offset < 0 or length <= 0 or self._closed:
            return None
        for layer, size, plain_file_offset in self._placing:
            if end > size:
                return None
            file_offset = plain_file_offset(offset, length)
            if file_offset >= 0:
                return _place_in(layer.store, file_offset, length)
            if file_offset != LEFT_TO_PARENT:
                return None
        return None

    def stream(self) -> DeviceStream:
        """The disk's content as a seekable binary file object."""
        return DeviceStream(self)

    def close(self) -> None:
        """Close the files; calling it twice does nothing."""
        if not self._closed:
            self._closed = True
            self._end = 0
            self._close_layers()

    def _close_layers(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise ImageClosedError(f"{self._layers[0].name}: the image is closed")

    def _absent(self, depth: int, span: Span) -> ParentNotFoundError:
        name = self._layers[depth].name
        return ParentNotFoundError(
            f"{name}: the {span.length} bytes at virtual offset {span.offset} are in its parent,"
            " which was not opened; name it with --parent"
        )

    @staticmethod
    def _shrunk(layer: Layer) -> OSError:
        return OSError(f"{layer.name}: the file became shorter while it was open")


def reading_limits(logical_sector_size: int, physical_sector_size: int, block_size: int) -> Limits:
    """The limits of a device that is open for reading. Sizes in bytes."""
    return Limits(
        logical_sector_size,
        physical_sector_size,
        block_size,
        ranges=Ability.NATIVE,
        block_status=Ability.NATIVE,
    )


def _store_ranges(store: ByteStore, file_offset: int, length: int) -> Iterator[Range]:
    """Ranges of one store; what a replay holds in memory is never given as a range of the file."""
    if not isinstance(store, OverlayStore):
        yield Range(store, file_offset, length)
        return
    if store.is_plain(file_offset, length):
        yield Range(store.base, file_offset, length)
        return
    for extent in store.extents(file_offset, length):
        if extent.kind is StoreKind.OVERLAY:
            yield Range(store, extent.file_offset, extent.length)
        elif extent.kind is StoreKind.HOLE:
            yield Range(ZERO, 0, extent.length)
        else:
            yield Range(store.base, extent.file_offset, extent.length)


def _place_in(store: ByteStore, file_offset: int, length: int) -> Place | None:
    if not _host.HAVE_PREADV:
        return None
    if isinstance(store, OverlayStore):
        if not store.is_plain(file_offset, length):
            return None
        store = store.base
    fd = store.fileno()
    return None if fd is None else Place(fd, file_offset)
