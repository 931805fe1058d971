"""What a format supplies: one file of a chain as a `Layer`, and for files that can be changed a `LayerWriter`.

`LayeredDevice` makes a block device of them. How layers decide a range together is told by `resolve`.

A range that a layer leaves to its parent is asked of the next layer. Past the end of a layer that is smaller than
the disk there are zeroes, whatever deeper layers hold there ([MS-VHDX] 2.4; FORMAT 7.2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from vhdx.blockdev.span import Span, SpanKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vhdx.blockdev.device import DiskReader
    from vhdx.findings import Finding
    from vhdx.storage.base import ByteStore


class Layer(Protocol):
    """One file of a chain, as far as reading through it goes. Offsets and sizes in bytes."""

    @property
    def name(self) -> str:
        """What to call the file in a message."""
        ...

    @property
    def size(self) -> int:
        """Virtual size."""
        ...

    @property
    def store(self) -> ByteStore:
        """Where the file's bytes are read from."""
        ...

    @property
    def findings(self) -> Sequence[Finding]:
        """What was tolerated so far in the file."""
        ...

    def spans(self, offset: int, length: int) -> Iterator[Span]:
        """Split a range inside the layer by where its content comes from.

        Raises: CorruptImageError when a part is reached that the layer cannot vouch for; OSError.
        """
        ...

    def plain_file_offset(self, offset: int, length: int) -> int:
        """File offset of a range whose bytes stand together in the file; -1 if only `spans` can tell.

        LEFT_TO_PARENT for a range of which the layer holds nothing. This is the short way of reading: a layer
        answers quickly here, or not at all.
        """
        ...


class Tickets(Protocol):
    """Numbers of running operations: file space that one of them may still use is not given to anything else."""

    def begin(self) -> int:
        """Take a ticket for an operation that is about to look up where something lies; `close` waits for it.

        Raises: ImageClosedError.
        """
        ...

    def pin(self) -> int:
        """Take a ticket that may outlive a call; `close` does not wait for it. Raises: ImageClosedError."""
        ...

    def end(self, ticket: int, /) -> object:
        """Give a ticket back: what its operation looked up is not used any more."""
        ...


class LayerWriter(Protocol):
    """Changes the leaf of a chain. Thread-safe.

    Offsets are virtual, in bytes, and every range has been checked. Every change raises ImageClosedError,
    ImagePoisonedError, and OSError; ParentNotFoundError where a part of a sector needs a parent that is absent.
    """

    @property
    def in_flight(self) -> Tickets:
        """What is taken by whoever reads or writes."""
        ...

    def check_sound(self) -> None:
        """Raises: ImagePoisonedError after a failure that ended the file's use."""
        ...

    def write(self, data: memoryview, offset: int, read: DiskReader, /) -> None:
        """Write bytes. `read` reads the disk, parents included: for sectors of which only a part is written."""
        ...

    def write_zeroes(
        self, offset: int, length: int, read: DiskReader, /, *, may_unmap: bool, fast_only: bool
    ) -> None:
        """Make a range read as zeroes, whatever a parent holds; it keeps its file space unless `may_unmap`.

        `fast_only` raises OSError (EOPNOTSUPP), with nothing done, where data would have to be written.
        """
        ...

    def trim(self, offset: int, length: int) -> None:
        """Give up the content of a range as far as that gives file space back."""
        ...

    def writes_in_place(self, offset: int, length: int) -> bool:
        """Whether writing a range only overwrites what is there: no tables change, and nothing is waited for."""
        ...

    def flush(self) -> None:
        """Make everything durable whose call has returned."""
        ...

    def close(self) -> None:
        """Wait for what other threads are doing, and make everything durable. The file stays open."""
        ...


LEFT_TO_PARENT: Final = -2
"""What `Layer.plain_file_offset` says of a range that the next layer decides."""


class LayerSpan(NamedTuple):
    """A span, and the depth of the layer that decides it; kind PARENT: in a parent that is not there."""

    depth: int
    span: Span


def resolve(layers: Sequence[Layer], offset: int, length: int) -> Iterator[LayerSpan]:
    """Find for every part of a range the layer that decides it, in order, without recursion.

    Raises: as `Layer.spans`.
    """
    pending = [_clipped(layers[0], offset, length)]
    while pending:
        depth = len(pending) - 1
        for span in pending[-1]:
            if span.kind is SpanKind.PARENT and depth + 1 < len(layers):
                pending.append(_clipped(layers[depth + 1], span.offset, span.length))
                break
            yield LayerSpan(depth, span)
        else:
            pending.pop()


def _clipped(layer: Layer, offset: int, length: int) -> Iterator[Span]:
    """The layer's spans of a range, and zeroes for what lies past the layer's end."""
    inside = max(0, min(length, layer.size - offset))
    if inside:
        yield from layer.spans(offset, inside)
    if inside < length:
        yield Span(SpanKind.UNALLOCATED, offset + inside, length - inside, 0)
