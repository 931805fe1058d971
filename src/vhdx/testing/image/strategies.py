"""Hypothesis strategies: sound images, chains of them, and requests to read. Needs hypothesis.

Images are small in what they hold, not in what they say: blocks of 1 or 2 MiB of which a few sectors are
filled, with every payload state that the kind of image allows.
"""

from typing import NamedTuple

from hypothesis import strategies as st

from vhdx._units import MIB
from vhdx.format.bat import PayloadState
from vhdx.format.log import LogChange
from vhdx.testing.image.builder import ImageBuilder

EMPTY_STATES = (
    PayloadState.NOT_PRESENT,
    PayloadState.UNDEFINED,
    PayloadState.ZERO,
    PayloadState.UNMAPPED,
)
MAX_BLOCKS = 6


class ReadRange(NamedTuple):
    """A range to read, in bytes."""

    offset: int
    length: int


@st.composite
def sector_fills(draw: st.DrawFn, sector_count: int, sector_size: int) -> dict[int, bytes]:
    """Some sectors of a block with content, clustered so that runs and their ends occur."""
    fills: dict[int, bytes] = {}
    for _ in range(draw(st.integers(1, 3))):
        near_end = draw(st.booleans())
        start = draw(st.integers(0, 70)) if not near_end else sector_count - draw(st.integers(1, 70))
        for sector in range(start, min(start + draw(st.integers(1, 20)), sector_count)):
            seed = draw(st.integers(1, 255))
            fills[sector] = bytes([seed]) * (sector_size - 1) + bytes([sector & 0xFF])
    return fills


def _fill_block(draw: st.DrawFn, image: ImageBuilder, block: int) -> None:
    geometry = image.geometry
    choices: list[PayloadState] = [*EMPTY_STATES, PayloadState.FULLY_PRESENT, PayloadState.FULLY_PRESENT]
    if geometry.has_parent:
        choices += [PayloadState.PARTIALLY_PRESENT] * 3
    state = draw(st.sampled_from(choices))
    if state in EMPTY_STATES:
        anchored = state in (PayloadState.UNDEFINED, PayloadState.UNMAPPED) and draw(st.booleans())
        if anchored:
            image.add_block(block, b"former content" * 64, state=state)
        else:
            image.set_block(block, state)
        return
    fills = draw(sector_fills(geometry.sectors_per_block, geometry.logical_sector_size))
    if state is PayloadState.PARTIALLY_PRESENT:
        image.add_partial_block(block, fills)
    else:
        offset = image.add_block(block)
        image.content += [
            (offset + sector * geometry.logical_sector_size, data) for sector, data in fills.items()
        ]


def _geometry(draw: st.DrawFn, sector_size: int) -> tuple[int, int]:
    block_size = draw(st.sampled_from((MIB, 2 * MIB)))
    blocks = draw(st.integers(1, MAX_BLOCKS))
    cut = draw(st.sampled_from((0, 0, sector_size, MIB - sector_size)))
    return blocks * block_size - cut, block_size


@st.composite
def images(draw: st.DrawFn, *, name: str = "disk") -> ImageBuilder:
    """A sound fixed or dynamic image; fixed ones may have blocks that are not allocated."""
    sector_size = draw(st.sampled_from((512, 512, 4096)))
    virtual_size, block_size = _geometry(draw, sector_size)
    kind = draw(st.sampled_from(("dynamic", "dynamic", "fixed")))
    image = ImageBuilder(
        virtual_size,
        block_size,
        logical_sector_size=sector_size,
        kind="fixed" if kind == "fixed" else "dynamic",
        name=name,
    )
    for block in range(image.geometry.block_count):
        if kind == "dynamic" or draw(st.booleans()):
            _fill_block(draw, image, block)
    image.trailing = bytes(draw(st.sampled_from((0, 0, 512))))
    return image


@st.composite
def chains(draw: st.DrawFn, *, max_depth: int = 4) -> list[ImageBuilder]:
    """A sound chain, leaf first: layers of other sizes and other block sizes than their parents."""
    base = draw(images(name="layer 0"))
    chain = [base]
    for depth in range(1, draw(st.integers(1, max_depth))):
        sector_size = base.geometry.logical_sector_size
        size, block_size = _geometry(draw, sector_size)
        same_size = draw(st.booleans())
        child = ImageBuilder.child_of(
            chain[0],
            virtual_size=chain[0].geometry.virtual_size if same_size else size,
            block_size=block_size,
            name=f"layer {depth}",
        )
        for block in range(child.geometry.block_count):
            _fill_block(draw, child, block)
        chain.insert(0, child)
    return chain


@st.composite
def dirty_images(draw: st.DrawFn) -> ImageBuilder:
    """An image whose BAT has yet to be put right by its log, in one entry or several, wrapped or not."""
    image = draw(images())
    described, image.bat = image.bat, {}
    groups: list[list[LogChange]] = []
    for index, entry in sorted(described.items()):
        image.bat[index] = entry
        groups.append(image.bat_change(index, entry) if draw(st.booleans()) else [])
    if described:
        groups.append(image.bat_change(index, entry))
    image.bat = {index: entry for index, entry in described.items() if draw(st.booleans())}
    position = draw(st.sampled_from((0, 4096, image.log_length - 4096)))
    image.dirty_log(*groups, [], position=position, sequence_number=draw(st.integers(1, 1 << 62)))
    return image


@st.composite
def requests(draw: st.DrawFn, size: int, *, max_length: int = 64 * 1024) -> ReadRange:
    """A range of a disk of `size` bytes, often at the edges of sectors and blocks."""
    edges = [*range(0, size + 1, MIB), size]
    near = draw(st.sampled_from(edges)) + draw(st.integers(-70, 70)) * draw(st.sampled_from((1, 512, 4096)))
    offset = min(max(near, 0), size)
    return ReadRange(offset, min(draw(st.integers(0, max_length)), size - offset))
