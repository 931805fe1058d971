"""Small sound images to start mutations from: every kind, both sector sizes, chains, and dirty logs."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final
from uuid import UUID

from vhdx._units import GIB, KIB, MIB
from vhdx.format.bat import PayloadState, make_entry
from vhdx.format.log import LogChange
from vhdx.storage.base import ByteStore, StoreKind, pread_zero_extended
from vhdx.storage.memory import MemoryStore
from vhdx.testing.image.builder import ImageBuilder
from vhdx.testing.image.log_entries import STALE_LOG_GUID, zero_change

SIZE: Final = 3 * MIB + 64 * KIB
"""Of most disks, in bytes: four blocks, the last one cut off by the disk's end."""
OPTIONAL_REGION: Final = UUID("0b510b51-0b51-4b51-8b51-0b510b510b51")
OPTIONAL_ITEM: Final = UUID("17e317e3-17e3-47e3-87e3-17e317e317e3")


@dataclass(frozen=True, slots=True)
class BaseImage:
    """A sound chain to mutate, leaf first. The stores are never changed."""

    name: str
    stores: tuple[ByteStore, ...]


def copy_store(source: ByteStore) -> MemoryStore:
    """An independent copy, holes kept; what is all zero becomes a hole. Raises: OSError."""
    copy = MemoryStore(name=source.name)
    for extent in source.extents(0, source.size()):
        if extent.kind is StoreKind.HOLE:
            continue
        end = extent.file_offset + extent.length
        for start in range(extent.file_offset, end, 1 << 16):
            piece = pread_zero_extended(source, min(1 << 16, end - start), start)
            if piece.count(0) != len(piece):
                copy.pwrite(piece, start)
    copy.truncate(source.size())
    return copy


def _bytes(seed: int, length: int) -> bytes:
    return random.Random(seed).randbytes(length)


def _with_states(image: ImageBuilder) -> ImageBuilder:
    """Give the first blocks every state that needs no parent."""
    sector = image.geometry.logical_sector_size
    image.add_block(0, _bytes(1, 3 * sector))
    image.add_block(1, b"former content", state=PayloadState.UNMAPPED)
    image.set_block(2, PayloadState.ZERO)
    image.content.append((image.add_block(3) + 5 * sector, _bytes(2, 2 * sector)))
    image.trailing = bytes(512)
    return image


def _dynamic(sector: int = 512, name: str = "disk") -> ImageBuilder:
    return _with_states(ImageBuilder(SIZE, MIB, logical_sector_size=sector, name=name))


def _fixed() -> ImageBuilder:
    image = ImageBuilder(2 * MIB, MIB, kind="fixed")
    image.content.append((image.data_offset + 7 * 512, _bytes(3, 2000)))
    return image


def _large_blocks() -> ImageBuilder:
    image = ImageBuilder(17 * 256 * MIB + 512, 256 * MIB)
    image.add_block(0, _bytes(4, 4096))
    image.add_block(17, _bytes(5, 512))
    image.set_block(16, PayloadState.UNDEFINED)
    return image


def _with_extras() -> ImageBuilder:
    image = _dynamic()
    image.add_region(OPTIONAL_REGION)
    image.add_item(OPTIONAL_ITEM, b"optional", flags=0)
    image.add_item(OPTIONAL_ITEM, b"user")
    image.headers[1] = image.headers[0]
    return image


def _child(parent: ImageBuilder, size: int, block_size: int, name: str) -> ImageBuilder:
    child = ImageBuilder.child_of(parent, virtual_size=size, block_size=block_size, name=name)
    sector, count = child.geometry.logical_sector_size, child.geometry.sectors_per_block
    runs = [*range(3, 9), 11, *range(30, 41), count - 1]
    child.add_partial_block(0, {number: _bytes(number, sector) for number in runs})
    child.add_partial_block(1, {number: _bytes(number, sector) for number in range(5)})
    return child


def _chain(sector: int = 512) -> list[ImageBuilder]:
    parent = _dynamic(sector, "parent")
    child = _child(parent, SIZE, MIB, "child")
    child.set_block(2, PayloadState.UNMAPPED)
    return [child, parent]


def _deep_chain() -> list[ImageBuilder]:
    base = _dynamic(name="base")
    middle = _child(base, 2 * MIB + 512, MIB, "middle")
    leaf = _child(middle, 3 * MIB, 2 * MIB, "leaf")
    return [leaf, middle, base]


def _dirty(image: ImageBuilder, *, position: int = 0, padding: int = 0, lag: bool = False) -> ImageBuilder:
    """Leave the BAT to the log: one entry for each block, and a last one that is empty."""
    described, image.bat = image.bat, {}
    groups: list[Sequence[LogChange]] = []
    for index, entry in sorted(described.items()):
        image.bat[index] = entry
        groups.append([*image.bat_change(index, entry), *(zero_change(0x50000, 0) for _ in range(padding))])
    groups.append([])
    image.bat = {}
    entries = image.dirty_log(*groups, position=position, sequence_number=(1 << 32) - 2)
    if lag:
        # The last entry with changes holds the whole sector: it alone is needed.
        for logged in entries[-2:]:
            logged.tail = entries[-2].position
    return image


def _dirty_stale() -> ImageBuilder:
    image = _dirty(_dynamic(), lag=True)
    image.log_run([zero_change(image.bat_offset)], position=0x40000, log_guid=STALE_LOG_GUID)
    return image


def _dirty_zeroes() -> ImageBuilder:
    image = _dynamic()
    image.content.append((image.bat_offset + 8192, b"rubbish after the table"))
    image.content.append((image.length() - 512, b"to be zeroed"))
    groups = [zero_change(image.bat_offset + 8192, 8192), zero_change(image.data_offset + 4096)]
    image.dirty_log(groups, [zero_change(GIB, 4096)], [])
    image.log_entries[-1].last_file_offset = 2 * GIB
    return image


def _dirty_growing() -> ImageBuilder:
    image = _dynamic()
    place = image.allocate()
    image.dirty_log(image.bat_change(2, make_entry(PayloadState.FULLY_PRESENT, place)))
    image.file_length = place
    image.log_entries[0].last_file_offset = place + MIB
    image.log_entries[0].flushed_file_offset = place
    return image


def _dirty_chain() -> list[ImageBuilder]:
    parent = _dirty(_dynamic(name="parent"))
    child = _child(parent, SIZE, MIB, "child")
    offset, bits = child.bitmaps[0]
    changed = bits[:4096].replace(b"\0\0", b"\xa5\x01", 4)
    child.dirty_log(child.change(offset, bytes(changed)), child.bat_change(2, PayloadState.ZERO))
    return [child, parent]


_MAKERS: Final[dict[str, Callable[[], ImageBuilder | list[ImageBuilder]]]] = {
    "dynamic": _dynamic,
    "dynamic-4096": lambda: _dynamic(4096),
    "fixed": _fixed,
    "large-blocks": _large_blocks,
    "extras": _with_extras,
    "chain": _chain,
    "chain-4096": lambda: _chain(4096),
    "deep-chain": _deep_chain,
    "dirty": lambda: _dirty(_dynamic()),
    "dirty-4096": lambda: _dirty(_dynamic(4096)),
    "dirty-wrapped": lambda: _dirty(_dynamic(), position=MIB - 12288),
    "dirty-long": lambda: _dirty(_dynamic(), position=MIB - 4096, padding=150),
    "dirty-stale": _dirty_stale,
    "dirty-zeroes": _dirty_zeroes,
    "dirty-growing": _dirty_growing,
    "dirty-chain": _dirty_chain,
}

BASE_NAMES: Final = tuple(_MAKERS)


@cache
def base_image(name: str) -> BaseImage:
    """One of BASE_NAMES; made once. Raises: KeyError."""
    made = _MAKERS[name]()
    images = made if isinstance(made, list) else [made]
    return BaseImage(name, tuple(_sealed(copy_store(image.build_store()), image.name) for image in images))


def _sealed(store: MemoryStore, name: str) -> MemoryStore:
    store.name = name
    store.writable = False
    return store
