"""Layers as one block device: a leaf, which may be open for writing, and the parents below it."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING, Final, Literal

from vhdx import _host
from vhdx._handles import Handle, disown_in_children
from vhdx.blockdev.device import MAX_READ_AHEAD, ZERO, Limits, Place, Range, check_range, clip_length
from vhdx.blockdev.extent import Extent, coalesce
from vhdx.blockdev.span import Span, SpanKind
from vhdx.disks.layer import LEFT_TO_PARENT, resolve
from vhdx.disks.stream import DeviceStream
from vhdx.errors import FormatError, ImageClosedError, ParentNotFoundError, ReadOnlyImageError
from vhdx.storage.base import StoreKind, base_of, plain_store, read_ahead, read_fully, reader_of
from vhdx.storage.zeroes import fill_zeroes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self
    from uuid import UUID

    from vhdx._buffer import Buffer
    from vhdx.disks.layer import Layer, LayerWriter
    from vhdx.findings import Finding
    from vhdx.storage.base import ByteStore

_MAX_HINTS: Final = 1024
"""Spans that one `cache` looks at; where sectors alternate between layers, a range can be of very many."""


class LayeredDevice(Handle):
    """The block device that layers make, leaf first. See `blockdev.device` for the contract of the methods.

    It can be changed if it has a writer, which changes the leaf; parents never change. Every change raises
    RequestError for a range outside the disk, with nothing done; ReadOnlyImageError; and what `LayerWriter` says.
    An error part-way may leave any mix of old and new in the range, sector by sector. Changes are durable after
    `flush`, `close`, or their own `fua=True`.
    """

    _how_to_write = "use mode 'r+'"

    def __init__(self, layers: tuple[Layer, ...], writer: LayerWriter | None = None) -> None:
        leaf = layers[0]
        self.layers = layers
        """Leaf first: a depth in an extent is an index here."""
        self._writer = writer
        self._closed = False
        self._end = leaf.size if writer is None else 0
        """Where the short way of `pread` ends: the virtual size, or 0 once the device is closed.

        0 beside a writer, too, because the short way takes no ticket.
        """
        self._leaf_place = leaf.plain_file_offset
        # Looked up once: a server asks for a place with each request.
        self._placing = tuple((layer, layer.size, layer.plain_file_offset) for layer in layers)
        self._leaf_read = reader_of(leaf.store)
        self._is_inherited = False
        disown_in_children(self)

    @property
    def closed(self) -> bool:
        """Whether the disk has been closed."""
        return self._closed

    @property
    def mode(self) -> Literal["r", "r+"]:
        """ "r+" if the disk can be changed, else "r"."""
        return "r" if self._writer is None else "r+"

    @property
    def name(self) -> str:
        """What to call the disk in a message: as its leaf."""
        return self.layers[0].name

    @property
    def size(self) -> int:
        """Virtual size in bytes."""
        return self.layers[0].size

    @property
    def stores(self) -> tuple[ByteStore, ...]:
        """The files that the disk is read from, leaf first."""
        return tuple(base_of(layer.store) for layer in self.layers)

    @property
    def findings(self) -> list[Finding]:
        """What was tolerated so far, in any file of the chain."""
        return [finding for layer in self.layers for finding in layer.findings]

    @property
    def is_complete(self) -> bool:
        """Whether every parent is open."""
        return True

    @property
    def disk_id(self) -> UUID | None:
        """The disk's identity as the guest sees it; None where the format has none."""
        return None

    @property
    def limits(self) -> Limits:
        """Abilities and preferred sizes."""
        raise NotImplementedError

    @property
    def writable(self) -> bool:
        """Whether the leaf is open for writing."""
        return self._writer is not None

    # -- reading -----------------------------------------------------------------------------------------------

    def pread(self, length: int, offset: int) -> bytes:
        """Read `length` bytes at a virtual offset.

        Raises: RequestError (range), CorruptImageError, ParentNotFoundError, ImageStateError, OSError.
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
        self._check_usable()
        writer = self._writer
        if writer is None:
            self._read(view, offset)
            return
        ticket = writer.in_flight.begin()
        try:
            self._read(view, offset)
        finally:
            writer.in_flight.end(ticket)

    def _read(self, view: memoryview, offset: int) -> None:
        length = len(view)
        if not length:
            return
        file_offset = self._leaf_place(offset, length)
        if file_offset >= 0 and self.layers[0].store.pread_into(view, file_offset) == length:
            return
        for depth, span in resolve(self.layers, offset, length):
            start = span.offset - offset
            part = view[start : start + span.length]
            if span.kind is SpanKind.DATA:
                read_fully(self.layers[depth].store, part, span.file_offset)
            elif span.kind is SpanKind.PARENT:
                raise self._absent(depth, span)
            else:
                fill_zeroes(part)

    def cache(self, length: int, offset: int) -> None:
        """Say that a range will be read soon; of a long one the beginning counts. What is absent is no error.

        Raises: RequestError, ImageStateError.
        """
        self._check_usable()
        check_range(self.size, offset, length)
        # The read itself will tell what is wrong with an entry.
        with suppress(FormatError, OSError):
            spans = resolve(self.layers, offset, min(length, MAX_READ_AHEAD))
            for depth, span in islice(spans, _MAX_HINTS):
                if span.kind is SpanKind.DATA:
                    read_ahead(self.layers[depth].store, span.length, span.file_offset)

    def stream(self) -> DeviceStream:
        """The disk's content as a seekable binary file object."""
        return DeviceStream(self)

    # -- telling where content lies ----------------------------------------------------------------------------

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        """Tell what a range holds, from metadata alone, neighbours that are alike joined.

        Raises: RequestError, ImageStateError at once; CorruptImageError, OSError while iterating.
        """
        self._check_usable()
        return coalesce(self._extents(offset, clip_length(self.size, offset, length)))

    def _extents(self, offset: int, length: int) -> Iterator[Extent]:
        for depth, span in resolve(self.layers, offset, length):
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

        Space that a range names is not used for anything else until the context ends. Raises: RequestError,
        ImageStateError at once; CorruptImageError, ParentNotFoundError, OSError while iterating.
        """
        self._check_usable()
        check_range(self.size, offset, length)
        writer = self._writer
        if writer is None:
            yield self._ranges(offset, length)
            return
        ticket = writer.in_flight.pin()
        try:
            yield self._ranges(offset, length)
        finally:
            writer.in_flight.end(ticket)

    def _ranges(self, offset: int, length: int) -> Iterator[Range]:
        for depth, span in resolve(self.layers, offset, length):
            if span.kind is SpanKind.DATA:
                yield from _store_ranges(self.layers[depth].store, span.file_offset, span.length)
            elif span.kind is SpanKind.PARENT:
                raise self._absent(depth, span)
            else:
                yield Range(ZERO, 0, span.length)

    def pin(self) -> int:
        """Keep what `place` will say true until `unpin`. Raises: ImageStateError."""
        self._check_usable()
        return 0 if self._writer is None else self._writer.in_flight.pin()

    def unpin(self, pin: int) -> None:
        """Nothing that was placed under this pin is used any more."""
        if self._writer is not None:
            self._writer.in_flight.end(pin)

    def place(self, offset: int, length: int) -> Place | None:
        """Where a range stands as a whole in one of the files; None if only `pread_into` can tell.

        Raises: OSError.
        """
        end = offset + length
        if offset < 0 or length <= 0 or self._closed or not _host.HAVE_PREADV:
            return None
        for layer, size, plain_file_offset in self._placing:
            if end > size:
                return None
            file_offset = plain_file_offset(offset, length)
            if file_offset >= 0:
                store = plain_store(layer.store, file_offset, length)
                fd = None if store is None else store.fileno()
                return None if fd is None else Place(fd, file_offset)
            if file_offset != LEFT_TO_PARENT:
                return None
        return None

    # -- changing ----------------------------------------------------------------------------------------------

    def pwrite(self, data: Buffer, offset: int, *, fua: bool = False) -> None:
        """Write bytes at a virtual offset. Any C-contiguous buffer, not kept."""
        with memoryview(data) as whole, whole.cast("B") as view:
            writer = self._change(offset, len(view))
            writer.write(view, offset, self.pread)
        self._after_change(writer, fua=fua)

    def write_zeroes(
        self,
        length: int,
        offset: int,
        *,
        may_unmap: bool = True,
        fua: bool = False,
        fast_only: bool = False,
    ) -> None:
        """Make a range read as zeroes; it gives up its file space where it can if `may_unmap`.

        `fast_only` raises OSError (EOPNOTSUPP), with nothing done, where data would have to be written.
        """
        writer = self._change(offset, length)
        writer.write_zeroes(offset, length, self.pread, may_unmap=may_unmap, fast_only=fast_only)
        self._after_change(writer, fua=fua)

    def trim(self, length: int, offset: int, *, fua: bool = False) -> None:
        """Say that a range's content is not needed: what gives file space back reads as zeroes from then on."""
        writer = self._change(offset, length)
        writer.trim(offset, length)
        self._after_change(writer, fua=fua)

    def flush(self) -> None:
        """Make everything durable whose call has returned. Nothing to do for a disk open for reading."""
        self._check_open()
        if self._writer is not None:
            self._writer.flush()

    def writes_in_place(self, offset: int, length: int) -> bool:
        """Whether writing a range only overwrites what is there: no tables change, nothing is waited for."""
        writer = self._writer
        if writer is None or self._closed or offset < 0 or length < 0 or offset + length > self.size:
            return False
        return writer.writes_in_place(offset, length)

    def _change(self, offset: int, length: int) -> LayerWriter:
        self._check_open()
        if self._writer is None:
            raise ReadOnlyImageError(
                f"{self.layers[0].name}: the image is open for reading; {self._how_to_write}"
            )
        check_range(self.size, offset, length)
        return self._writer

    def _after_change(self, writer: LayerWriter, *, fua: bool) -> None:
        if fua:
            writer.flush()

    # -- the end -----------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Make everything durable and close the files; calling it twice does nothing. Raises: OSError."""
        if not self._closed:
            self._closed = True
            self._end = 0
            self._close_layers()

    def _close_layers(self) -> None:
        raise NotImplementedError

    @property
    def _state(self) -> str:
        """For a `repr`."""
        return "closed" if self._closed else f"mode {self.mode!r}"

    def disown(self) -> None:
        """Refuse every call in this process, which has inherited the disk: it is its parent process's."""
        self._is_inherited = not self._closed
        self._closed = True
        self._end = 0

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            if self._is_inherited:
                raise ImageClosedError(
                    f"{self.name}: the image was opened by the process that this one was forked from; open it here"
                )
            raise ImageClosedError(f"{self.name}: the image is closed")

    def _check_usable(self) -> None:
        self._check_open()
        if self._writer is not None:
            self._writer.check_sound()

    def _absent(self, depth: int, span: Span) -> ParentNotFoundError:
        name = self.layers[depth].name
        return ParentNotFoundError(
            f"{name}: the {span.length} bytes at virtual offset {span.offset} are in its parent,"
            " which was not opened; name it with --parent"
        )


def _store_ranges(store: ByteStore, file_offset: int, length: int) -> Iterator[Range]:
    """Ranges of one store; what a replay holds in memory is never given as a range of the file."""
    plain = plain_store(store, file_offset, length)
    if plain is not None:
        yield Range(plain, file_offset, length)
        return
    for extent in store.extents(file_offset, length):
        if extent.kind is StoreKind.HOLE:
            yield Range(ZERO, 0, extent.length)
        else:
            part = plain_store(store, extent.file_offset, extent.length)
            yield Range(store if part is None else part, extent.file_offset, extent.length)
