"""What a block's place in the file must satisfy, judged entry by entry ([MS-VHDX] 2.5.1).

A BAT has no checksum, so an entry is judged each time that it is looked up. The facts by which entries are judged
are fixed when the image is opened, except for the length of the file: a writer that makes the file longer says so
by `grow`.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator

from vhdx.findings import Finding
from vhdx.format.bat import (
    MAY_ANCHOR,
    OWNS_SPACE,
    RESERVED_MASK,
    BitmapState,
    PayloadState,
    entry_file_offset,
    entry_state,
    is_bitmap_present,
    owned_file_offset,
)
from vhdx.format.constants import (
    BAT_ENTRY_SIZE,
    BITMAP_BLOCK_SIZE,
    HEADER_SECTION_SIZE,
    MAX_BLOCK_FILE_OFFSET,
)
from vhdx.format.geometry import Geometry
from vhdx.rules import RuleCode


class BlockRules:
    """The facts that decide whether a block may lie where its entry says. Offsets and sizes in bytes."""

    def __init__(
        self,
        geometry: Geometry,
        bat_file_offset: int,
        file_size: int,
        structures: Iterable[tuple[int, int, str]],
    ) -> None:
        """`structures` are (start, end, name) of the log and every region; none overlaps another."""
        self.geometry = geometry
        self.bat_file_offset = bat_file_offset
        ordered = sorted(structures)
        self.structure_starts = [start for start, _, _ in ordered]
        self.structure_ends = [end for _, end, _ in ordered]
        self._structure_names = [name for _, _, name in ordered]
        self.structures_end = self.structure_ends[-1] if ordered else HEADER_SECTION_SIZE
        """Blocks at or above this file offset cannot meet a structure."""
        self.grow(file_size)

    def grow(self, file_size: int) -> None:
        """The file is `file_size` bytes long from now on."""
        self.file_size = file_size
        self.last_plain_offset = min(file_size, MAX_BLOCK_FILE_OFFSET) - self.geometry.block_size
        """A whole block at a file offset from `structures_end` to here is surely in its right place."""

    @property
    def structures(self) -> Iterator[tuple[int, int]]:
        """Start and end of the log and of every region, ascending."""
        return zip(self.structure_starts, self.structure_ends, strict=True)

    def structure_in(self, start: int, end: int) -> str | None:
        """Name of the first structure that a range of the file meets."""
        index = bisect_right(self.structure_ends, start)
        if index < len(self.structure_starts) and self.structure_starts[index] < end:
            return self._structure_names[index]
        return None

    def is_clear(self, start: int, end: int) -> bool:
        """Whether a range of the file lies within it, above its header section and beside every structure."""
        if not HEADER_SECTION_SIZE <= start < end <= min(self.file_size, MAX_BLOCK_FILE_OFFSET):
            return False
        return self.structure_in(start, end) is None

    def payload_findings(self, block: int, entry: int) -> Iterable[Finding]:
        """Every rule that a payload entry breaks, the gravest included."""
        state, file_offset = entry_state(entry), entry_file_offset(entry)
        where = self.name_of_block(block)
        at = self.bat_file_offset + self.geometry.entry_of_block(block) * BAT_ENTRY_SIZE
        found = f"{entry:#018x}"
        if entry & RESERVED_MASK:
            yield Finding(RuleCode.BAT_RESERVED_BITS, where, at, found)
        if state == PayloadState.RESERVED_4:
            yield Finding(RuleCode.BAT_STATE_RESERVED, where, at, found)
        if state == PayloadState.OLD_UNMAPPED:
            yield Finding(RuleCode.BAT_STATE_OLD_UNMAPPED, where, at, found)
        if state == PayloadState.PARTIALLY_PRESENT and not self.geometry.has_parent:
            yield Finding(RuleCode.BAT_PARTIAL_WITHOUT_PARENT, where, at, found)
        if file_offset and not OWNS_SPACE[state] and not MAY_ANCHOR[state]:
            yield Finding(RuleCode.BAT_UNUSED_OFFSET, where, at, found)
        if OWNS_SPACE[state] or (MAY_ANCHOR[state] and file_offset):
            # What lies past the disk's end may be cut off from the file.
            needed = self.geometry.block_length(block)
            yield from self._place_findings(where, at, file_offset, self.geometry.block_size, needed)

    def trailing_finding(self, block: int, entry: int) -> Finding:
        """The finding for a non-zero entry of the last chunk that belongs to no block of the disk."""
        index = self.geometry.entry_of_block(block)
        at = self.bat_file_offset + index * BAT_ENTRY_SIZE
        owns = owned_file_offset(entry) != 0
        code = RuleCode.BLOCK_BEYOND_DISK if owns else RuleCode.BAT_TRAILING_ENTRIES
        return Finding(code, f"BAT entry {index} (past the disk's end)", at, f"{entry:#018x}")

    def bitmap_findings(self, chunk: int, entry: int) -> Iterable[Finding]:
        """Every rule that a sector bitmap entry breaks by itself."""
        state, file_offset = entry_state(entry), entry_file_offset(entry)
        where = self.name_of_bitmap(chunk)
        at = self.bat_file_offset + self.geometry.entry_of_bitmap(chunk) * BAT_ENTRY_SIZE
        found = f"{entry:#018x}"
        if entry & RESERVED_MASK:
            yield Finding(RuleCode.BAT_RESERVED_BITS, where, at, found)
        if state not in (BitmapState.NOT_PRESENT, BitmapState.PRESENT):
            yield Finding(RuleCode.BITMAP_SLOT_STATE, where, at, found)
        if state == BitmapState.PRESENT and not self.geometry.has_parent:
            yield Finding(RuleCode.BITMAP_SLOT_WITHOUT_PARENT, where, at, found)
        elif is_bitmap_present(entry):
            yield from self._place_findings(where, at, file_offset, BITMAP_BLOCK_SIZE, BITMAP_BLOCK_SIZE)
        if state == BitmapState.NOT_PRESENT and file_offset:
            yield Finding(RuleCode.BAT_UNUSED_OFFSET, where, at, found)

    def missing_bitmap(self, chunk: int, entry: int, block: int) -> Finding:
        """The finding for a partially present block whose chunk has no bitmap."""
        at = self.bat_file_offset + self.geometry.entry_of_bitmap(chunk) * BAT_ENTRY_SIZE
        needed = f"a bitmap for {self.name_of_block(block)}"
        return Finding(RuleCode.BITMAP_MISSING, self.name_of_bitmap(chunk), at, f"{entry:#018x}", needed)

    def name_of_block(self, block: int) -> str:
        """What to call a payload block's entry in a message."""
        return f"BAT entry {self.geometry.entry_of_block(block)} (block {block})"

    def name_of_bitmap(self, chunk: int) -> str:
        """What to call a sector bitmap's entry in a message."""
        return f"BAT entry {self.geometry.entry_of_bitmap(chunk)} (sector bitmap of chunk {chunk})"

    def name_of_entry(self, index: int) -> str:
        """What to call the entry with an index in the table, of either kind, in a message."""
        chunk, block = self.geometry.locate_entry(index)
        return self.name_of_bitmap(chunk) if block is None else self.name_of_block(block)

    def _place_findings(
        self, where: str, at: int, file_offset: int, length: int, needed: int
    ) -> Iterable[Finding]:
        """`needed`: bytes of the block that must be in the file; what lies past the disk's end may be cut off."""
        place = f"{file_offset:#x}"
        if file_offset < HEADER_SECTION_SIZE:
            yield Finding(RuleCode.BLOCK_LOCATION, where, at, place)
            return
        if file_offset > MAX_BLOCK_FILE_OFFSET:
            yield Finding(RuleCode.BLOCK_OFFSET_LIMIT, where, at, place)
            return
        structure = self.structure_in(file_offset, file_offset + length)
        if structure is not None:
            yield Finding(RuleCode.BLOCK_OVERLAPS_STRUCTURE, where, at, place, f"not in the {structure}")
        if file_offset >= self.file_size:
            yield Finding(RuleCode.BLOCK_PAST_END, where, at, place, f"below {self.file_size:#x}")
        elif file_offset + needed > self.file_size:
            found = f"{place} to {file_offset + needed:#x}"
            yield Finding(
                RuleCode.BLOCK_TRUNCATED, where, at, found, f"an end at or below {self.file_size:#x}"
            )
