"""Images for crash tests: small, every kind, every sector of note stamped, garbage wherever nothing is owned."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from proof.crash.subject import VhdxSubject
from vhdx._units import MIB
from vhdx.format.bat import PayloadState, make_entry
from vhdx.format.sector_bitmap import set_bits
from vhdx.testing.crash import (
    Content,
    DiskShape,
    Driver,
    Operation,
    RecordingStore,
    Verb,
    durable_content,
    fixed_entropy,
    garbage,
    stamped_sectors,
)
from vhdx.testing.crash.stamps import FIRST, PARENT
from vhdx.testing.image import ImageBuilder, QuickDisk, data_change, zero_change

TAIL: Final = 65536
"""Bytes of the last block that are on the disk."""
_EDGE: Final = 16384


@dataclass(frozen=True, slots=True)
class CrashBase:
    """An image to begin with. `blocks` are those worth writing to: one of each state."""

    name: str
    content: Content
    disk: Content
    """What the disk holds."""
    shape: DiskShape
    subject: VhdxSubject
    blocks: tuple[int, ...]


def make_base(image: ImageBuilder, blocks: tuple[int, ...], *parents: ImageBuilder) -> CrashBase:
    """Render an image and its parents, nearest first."""
    content = Content.of(image.build_store())
    subject = VhdxSubject([Content.of(parent.build_store()) for parent in parents])
    shape = DiskShape(image.geometry.virtual_size, image.geometry.block_size, is_fixed=image.kind == "fixed")
    return CrashBase(image.name, content, held_by([content, *subject.parents]), shape, subject, blocks)


def held_by(chain: Sequence[Content]) -> Content:
    """What a disk holds, leaf first, as a reader sees it that shares nothing with the library under test."""
    reader = QuickDisk([RecordingStore(content) for content in chain])
    disk = Content(size=reader.size)
    for offset in range(0, reader.size, MIB):
        disk.write(reader.read(offset, min(MIB, reader.size - offset)), offset)
    return disk


def dirty(base: CrashBase, operations: Sequence[Operation]) -> CrashBase:
    """An image after the power failed behind a session of the library; the log holds what was flushed last."""
    store = RecordingStore(base.content)
    with fixed_entropy("dirty"):
        Driver(base.subject, store, base.shape).perform_all(operations)
    content = durable_content(store.start, store.steps)
    disk = held_by([content, *base.subject.parents])
    return replace(base, name=f"{base.name}, dirty", content=content, disk=disk)


def dynamic(block_size: int = MIB, sector_size: int = 512) -> CrashBase:
    """Blocks: 0 has content, 1 is fresh, 2 was trimmed, 3 is zero, 4 is fresh and cut short."""
    count = 4 if block_size == MIB else 2
    image = ImageBuilder(
        count * block_size + TAIL,
        block_size,
        logical_sector_size=sector_size,
        name=f"dynamic, {block_size // MIB} MiB blocks, {sector_size}-byte sectors",
    )
    _fill(image, 0)
    _add_garbage(image)
    if count == 2:
        image.set_block(2, PayloadState.UNMAPPED)
        return make_base(image, (0, 1, 2))
    image.set_block(2, PayloadState.UNMAPPED)
    image.set_block(3, PayloadState.ZERO)
    return make_base(image, (0, 1, 2, 4))


def fixed() -> CrashBase:
    """Every block has space, and none may be given up."""
    image = ImageBuilder(2 * MIB + TAIL, MIB, kind="fixed", name="fixed")
    for block in range(3):
        _stamp(image, block, image.data_offset + block * MIB, FIRST)
    return make_base(image, (0, 1, 2))


def child(block_size: int = MIB, sector_size: int = 512) -> CrashBase:
    """Blocks: 0 is present, 1 shows the parent, 2 was trimmed, 3 is partially present, 4 shows the parent.

    The bits of blocks that are not partially present are stale.
    """
    count = 4 if block_size == MIB else 2
    parent = ImageBuilder(count * block_size + TAIL, MIB, logical_sector_size=sector_size, name="parent")
    for block in range(count):
        at = block * (block_size // MIB)
        _stamp(parent, at, parent.add_block(at), PARENT)
    _stamp(parent, count * (block_size // MIB), parent.add_block(count * (block_size // MIB)), PARENT)
    image = ImageBuilder.child_of(
        parent,
        block_size=block_size,
        name=f"child, {block_size // MIB} MiB blocks, {sector_size}-byte sectors",
    )
    _fill(image, 0)
    _add_garbage(image)
    partial = 3 if count == 4 else 2
    per_sector = sector_size // 512
    image.add_partial_block(
        partial,
        {
            sector: stamped_sectors(0, partial * block_size + sector * sector_size, 512 * per_sector, FIRST)
            for sector in (0, 2, 3, 9, 15)
        },
    )
    bits = image.bitmaps[0][1]
    for block in {0, 1, 2, 4} - {partial}:
        if block < image.geometry.block_count:
            set_bits(bits, block * image.geometry.sectors_per_block + 1, 12)
    if count == 4:
        image.set_block(2, PayloadState.UNMAPPED)
    return make_base(image, (0, 1, 2, 3) if count == 4 else (0, 1, 2), parent)


def child_without_bitmap() -> CrashBase:
    """The first partial write has to make the bitmap block, in garbage or in new space."""
    parent = ImageBuilder(2 * MIB + TAIL, MIB, name="parent")
    _stamp(parent, 0, parent.add_block(0), PARENT)
    image = ImageBuilder.child_of(parent, name="child without bitmap")
    _add_garbage(image)
    return make_base(image, (0, 1), parent)


def long_table() -> CrashBase:
    """A BAT of three pages; blocks at their edges."""
    image = ImageBuilder(1025 * MIB, MIB, name="long table")
    for block in (0, 511, 1024):
        _fill(image, block)
    _add_garbage(image)
    return make_base(image, (0, 510, 512, 1023))


def dirty_long_table() -> CrashBase:
    """A table of three pages, all of them in the log that our own engine left; blocks in each of them."""
    writes = (Operation(Verb.WRITE, block * MIB + 4096, 512) for block in (1, 513, 1023))
    base = dirty(long_table(), (*writes, Operation(Verb.FLUSH)))
    # The second one lies in another page: it is looked up after the log of the first has been begun anew.
    return replace(base, blocks=(2, 514, 3, 1022))


def odd_length() -> CrashBase:
    """A file whose length is no multiple of anything, with bytes after its last structure.

    Block 2 was trimmed, and its entry still names the space that it had: nobody else may take that.
    """
    image = ImageBuilder(3 * MIB + TAIL, MIB, name="odd length")
    _fill(image, 0)
    image.add_block(2, garbage(2 * _EDGE), state=PayloadState.UNMAPPED)
    image.trailing = garbage(4096)[:1000]
    return make_base(image, (0, 1, 2, 3))


def no_log() -> CrashBase:
    """A file that has no log at all: the first session has to give it one, and the file has to grow for it."""
    image = ImageBuilder(2 * MIB + TAIL, MIB, name="no log", log_length=0)
    image.each_header(log_offset=0, log_length=0)
    _fill(image, 0)
    return make_base(image, (0, 1))


def foreign_log() -> CrashBase:
    """A child with a dirty log as others write it: zero descriptors, older entries, growth that was lost.

    Block 1 lies past the end of the file until the log is replayed. The bitmap is zeroed, changed, and zeroed again:
    until then its bits show garbage in place of the parent. The table is zeroed and then changed.
    """
    parent = ImageBuilder(2 * MIB + TAIL, MIB, name="parent")
    for block in range(2):
        _stamp(parent, block, parent.add_block(block), PARENT)
    image = ImageBuilder.child_of(parent, name="foreign log")
    _add_garbage(image)
    offset = image.add_partial_block(0, {})
    image.content.append((offset, garbage(2 * _EDGE)))
    bitmap_offset, bits = image.bitmaps[0]
    wrong = b"\xff" * 8192
    bits[:8192] = wrong
    end = image.length()
    entry = image.geometry.entry_of_block(1)
    image.dirty_log(
        image.bat_change(entry, make_entry(PayloadState.ZERO, 0)),
        [
            zero_change(bitmap_offset, MIB),
            data_change(bitmap_offset, wrong[:4096]),
            zero_change(bitmap_offset, 4096),
            zero_change(image.bat_offset, 4096),
        ],
        image.bat_change(entry, make_entry(PayloadState.FULLY_PRESENT, end)),
    )
    image.log_entries[-1].last_file_offset = end + MIB
    assert offset < end
    return make_base(image, (0, 1, 2), parent)


def _stamp(image: ImageBuilder, block: int, file_offset: int, generation: int) -> None:
    """Content at both ends of a block, as far as it is on the disk."""
    start = block * image.geometry.block_size
    length = min(image.geometry.block_size, image.geometry.virtual_size - start)
    for at in (0, length - _EDGE):
        image.content.append((file_offset + at, stamped_sectors(0, start + at, _EDGE, generation)))


def _fill(image: ImageBuilder, block: int) -> None:
    _stamp(image, block, image.add_block(block), FIRST)


def _add_garbage(image: ImageBuilder) -> None:
    """A block's worth of space that nothing owns, and that must never be seen."""
    length = image.geometry.block_size
    offset = image.allocate(length)
    for at in sorted({0, length // 2, length - 2 * _EDGE, length - MIB}):
        if at >= 0:
            image.content.append((offset + at, garbage(2 * _EDGE)))
    image.allocate(MIB)  # the image does not end with it


BASES: Final[dict[str, Callable[[], CrashBase]]] = {
    "dynamic": dynamic,
    "dynamic-4096": lambda: dynamic(sector_size=4096),
    "dynamic-32m": lambda: dynamic(32 * MIB),
    "fixed": fixed,
    "child": child,
    "child-4096": lambda: child(sector_size=4096),
    "child-32m": lambda: child(32 * MIB),
    "child-without-bitmap": child_without_bitmap,
    "long-table": long_table,
    "dirty-long-table": dirty_long_table,
    "odd-length": odd_length,
    "no-log": no_log,
    "foreign-log": foreign_log,
}
"""By short name."""
