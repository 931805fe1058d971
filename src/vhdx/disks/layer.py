"""What a format supplies: one file of a chain as a layer, and how layers decide a range together.

A range that a layer leaves to its parent is asked of the next layer. Past the end of a layer that is smaller than
the disk there are zeroes, whatever deeper layers hold there ([MS-VHDX] 2.4; FORMAT 7.2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from vhdx.blockdev.span import Span, SpanKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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
