"""Judge every entry of a BAT, and find every overlap, in bounded memory.

A small table without a fault is known for one at a glance (`engine.plain_table`). Over any other, one pass
goes in slices of about 1 MiB. numpy picks the entries that may be wrong; only those are judged one by one, by
the same rules as a single look-up. File space is counted in a bitmap with one bit for each MiB of file. If the
bits that are set are fewer than the MiBs that were claimed, two blocks overlap somewhere, and only then further
passes find out which.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from vhdx._units import MIB, div_ceil
from vhdx.engine.bat_table import NUMPY_THRESHOLD_BLOCKS
from vhdx.engine.block_rules import is_bitmap_present
from vhdx.engine.interval_set import IntervalSet
from vhdx.engine.scan.small_table import UNOWNED_PLAIN, look_at
from vhdx.findings import Finding
from vhdx.format.bat import (
    OFFSET_MASK,
    RESERVED_MASK,
    STATE_MASK,
    PayloadState,
)
from vhdx.format.constants import (
    BAT_ENTRY_SIZE,
    HEADER_SECTION_SIZE,
    MAX_BLOCK_FILE_OFFSET,
)
from vhdx.rules import RuleCode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    import numpy.typing as npt

    from vhdx.engine.bat_table import BatTable, ChunkSlice
    from vhdx.engine.block_rules import BlockRules

    _Entries = npt.NDArray[np.uint64]
    _Indices = npt.NDArray[np.int64]

MAX_OVERLAPS: Final = 64
"""Overlaps that are named one by one; finding the partners of more would take more passes."""

MAX_LISTED: Final = 64
"""Entries of a crowd, all wrong in the same way, that are judged one by one."""

MAX_FREE_RUNS: Final = 1 << 16
_FREE_STEP: Final = 1 << 14
_MAX_CLAIMED_UNITS: Final = 1 << 19
_CROWD: Final = 1024
_MIB_SHIFT: Final = 20


class SpaceUse(NamedTuple):
    """How a file's space is used, in bytes. Counted by the scan."""

    blocks: int
    """Payload blocks and sector bitmaps, soft anchors included, each MiB once."""
    claimed: int
    """The same, each MiB as often as it is claimed: more than `blocks` where blocks overlap."""


class _Claims(NamedTuple):
    """File space that some entries of one slice claim. `units` are MiB numbers, one for each MiB claimed."""

    units: _Indices
    entry_indices: _Indices
    end: int
    """File offset just past the last of the blocks, where the file may not reach."""


class BlockScan:
    """One judgement of a whole BAT. Iterate over `findings()`; `space` is right once it is exhausted."""

    def __init__(
        self,
        bat: BatTable,
        rules: BlockRules,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self._bat = bat
        self._rules = rules
        self._geometry = rules.geometry
        self._progress = progress
        self.space = SpaceUse(0, 0)
        self.blocks_end = 0
        """File offset just past the last block, even where the file ends before it."""
        self.free = IntervalSet()
        """Whole MiBs of the file that nothing owns, in bytes; of very many pieces only the first."""
        self.unlisted: Counter[RuleCode] = Counter()
        """Breaches that were counted but not listed, because many others are just like them."""

    def findings(self) -> Iterator[Finding]:
        """Judge everything. Raises: OSError."""
        if self._geometry.block_count < NUMPY_THRESHOLD_BLOCKS:
            plain = look_at(self._bat, self._rules)
            if plain is not None:
                self.space = SpaceUse(plain.owned, plain.owned)
                self.blocks_end, self.free = plain.blocks_end, plain.free
                return
        yield from self._all_findings()

    def _all_findings(self) -> Iterator[Finding]:
        import numpy as np

        map_bytes = div_ceil(min(self._rules.file_size, MAX_BLOCK_FILE_OFFSET + MIB), 8 * MIB) + 1
        used: npt.NDArray[np.uint8] = np.zeros(map_bytes, np.uint8)
        claimed = 0
        for piece in self._slices():
            if piece.data is None:
                continue
            rows = self._rows(piece)
            yield from self._entry_findings(piece, rows)
            yield from self._bitmap_findings(piece, rows)
            for claims in self._claims(piece, rows):
                claimed += len(claims.units)
                self.blocks_end = max(self.blocks_end, claims.end)
                np.bitwise_or.at(used, claims.units >> 3, _bit_of(claims.units))
        owned = int(np.bitwise_count(used).sum(dtype=np.int64))
        self.space = SpaceUse(owned * MIB, claimed * MIB)
        self.free = _free_space(used, self._rules)
        del used
        if owned != claimed:
            yield from self._overlap_findings(map_bytes)

    def _slices(self) -> Iterator[ChunkSlice]:
        for piece in self._bat.slices():
            if self._progress is not None:
                self._progress(piece.first_chunk, self._geometry.chunk_count)
            yield piece

    def _rows(self, piece: ChunkSlice) -> _Entries:
        """A slice as an array with one row for each chunk: its payload entries, then its bitmap entry."""
        import numpy as np

        assert piece.data is not None
        width = self._geometry.chunk_ratio + 1
        entries = np.frombuffer(piece.data, "<u8")
        missing = piece.chunk_count * width - len(entries)
        if missing:
            entries = np.concatenate([entries, np.zeros(missing, "<u8")])
        rows: _Entries = entries.reshape(piece.chunk_count, width)
        return rows

    def _entry_findings(self, piece: ChunkSlice, rows: _Entries) -> Iterator[Finding]:
        """Judge the payload entries that are not plainly right."""
        import numpy as np

        rules = self._rules
        payload = rows[:, :-1]
        offsets = payload & np.uint64(OFFSET_MASK)
        low_bits = payload & np.uint64(RESERVED_MASK | STATE_MASK)
        last_start = min(rules.file_size, MAX_BLOCK_FILE_OFFSET) - self._geometry.block_size
        right = low_bits == int(PayloadState.FULLY_PRESENT)
        if self._geometry.has_parent:
            right |= low_bits == int(PayloadState.PARTIALLY_PRESENT)
        right &= (offsets >= HEADER_SECTION_SIZE) & (offsets <= max(last_start, 0))
        right &= ~self._in_structures(offsets)
        right |= payload <= UNOWNED_PLAIN
        if self._geometry.has_parent:
            self._mark_trailing(piece, payload, right)
        wrong_rows, wrong_columns = np.nonzero(~right)
        blocks = (piece.first_chunk + wrong_rows) * self._geometry.chunk_ratio + wrong_columns
        yield from self._judge(blocks, payload[wrong_rows, wrong_columns])

    def _mark_trailing(self, piece: ChunkSlice, payload: _Entries, right: Any) -> None:
        """Suspect every entry of the last chunk that belongs to no block of the disk and is not zero."""
        surplus = (
            piece.first_chunk + piece.chunk_count
        ) * self._geometry.chunk_ratio - self._geometry.block_count
        if surplus > 0:
            tail = right[-1, -surplus:]
            tail &= payload[-1, -surplus:] == 0

    def _judge(self, blocks: _Indices, entries: _Entries) -> Iterator[Finding]:
        """Judge suspects one by one; of a crowd that is wrong in one way, the first, and count the rest."""
        if len(blocks) <= _CROWD:
            yield from self._judge_each(blocks, entries)
            return
        import numpy as np

        order, starts, sizes = _crowds(self._kinds(blocks, entries))
        for start, size in zip(starts, sizes, strict=True):
            crowd = np.sort(order[start : start + size])
            sample = crowd[:MAX_LISTED]
            yield from self._judge_each(blocks[sample], entries[sample])
            for finding in self._judge_each(blocks[crowd[-1:]], entries[crowd[-1:]]):
                self.unlisted[finding.code] += size - len(sample)

    def _kinds(self, blocks: _Indices, entries: _Entries) -> _Indices:
        """A number for each suspect; suspects with the same number break the same rules."""
        import numpy as np

        rules, size = self._rules, self._geometry.block_size
        places = entries & np.uint64(OFFSET_MASK)
        offsets = places.astype(np.float64)
        needed = np.minimum(size, self._geometry.virtual_size - blocks * size)
        facts = [
            (entries & np.uint64(RESERVED_MASK)) != 0,
            offsets != 0,
            offsets < HEADER_SECTION_SIZE,
            offsets > MAX_BLOCK_FILE_OFFSET,
            offsets >= rules.file_size,
            offsets + needed > rules.file_size,
            blocks >= self._geometry.block_count,
            self._in_structures(places),
        ]
        kinds: _Indices = (entries & np.uint64(STATE_MASK)).astype(np.int64)
        for fact in facts:
            kinds = kinds * 2 + fact
        return kinds

    def _in_structures(self, offsets: _Entries) -> Any:
        """Which payload blocks at these file offsets would meet a structure."""
        import numpy as np

        # A log that is not in use may lie anywhere, past all that 64 bits can say too.
        ends = np.array([min(end, (1 << 64) - 1) for end in self._rules.structure_ends], np.uint64)
        starts = np.append(np.array(self._rules.structure_starts, np.uint64), np.uint64(1 << 63))
        following = starts[np.searchsorted(ends, offsets, side="right")]
        return following < offsets + np.uint64(self._geometry.block_size)

    def _judge_each(self, blocks: _Indices, entries: _Entries) -> Iterator[Finding]:
        for block, entry in zip(blocks.tolist(), entries.tolist(), strict=True):
            if block < self._geometry.block_count:
                yield from self._rules.payload_findings(block, entry)
            else:
                yield self._rules.trailing_finding(block, entry)

    def _bitmap_findings(self, piece: ChunkSlice, rows: _Entries) -> Iterator[Finding]:
        """Judge the bitmap entries, and whether every partially present block has its bitmap."""
        import numpy as np

        bitmaps = rows[:, -1]
        for row in np.flatnonzero(bitmaps):
            yield from self._rules.bitmap_findings(piece.first_chunk + int(row), int(bitmaps[row]))
        if not self._geometry.has_parent:
            return
        partial = (rows[:, :-1] & np.uint64(STATE_MASK)) == int(PayloadState.PARTIALLY_PRESENT)
        for row in np.flatnonzero(partial.any(axis=1)):
            chunk, entry = piece.first_chunk + int(row), int(bitmaps[row])
            if not is_bitmap_present(entry):
                block = chunk * self._geometry.chunk_ratio + int(np.argmax(partial[row]))
                yield self._rules.missing_bitmap(chunk, entry, block)

    def _claims(self, piece: ChunkSlice, rows: _Entries) -> Iterator[_Claims]:
        """The MiBs of the file that a slice's entries claim, and by which entry; impossible places excepted.

        In pieces of at most half a million: a slice of large blocks can claim sixty times as many.
        """
        import numpy as np

        width = self._geometry.chunk_ratio + 1
        payload = rows[:, :-1]
        state = payload & np.uint64(STATE_MASK)
        offsets = payload >> np.uint64(_MIB_SHIFT)
        present = (state == 6) | (state == 7)
        anchored = ((state == 1) | (state == 3) | (state == 5)) & (offsets != 0)
        payload_rows, payload_columns = np.nonzero((present | anchored) & self._possible(offsets))
        starts = offsets[payload_rows, payload_columns].astype(np.int64)
        first_index = piece.first_chunk * width
        indices = first_index + payload_rows * width + payload_columns
        per_block = self._geometry.block_size // MIB
        step = max(1, _MAX_CLAIMED_UNITS // per_block)
        for at in range(0, len(starts), step):
            units = (starts[at : at + step, None] + np.arange(per_block)).reshape(-1)
            yield self._inside(units, np.repeat(indices[at : at + step], per_block))
        bitmap_offsets = rows[:, -1] >> np.uint64(_MIB_SHIFT)
        bitmap_state = rows[:, -1] & np.uint64(STATE_MASK)
        bitmap_rows = np.flatnonzero(
            ((bitmap_state == 6) | (bitmap_state == 7)) & self._possible(bitmap_offsets)
        )
        if len(bitmap_rows):
            units = bitmap_offsets[bitmap_rows].astype(np.int64)
            yield self._inside(units, first_index + bitmap_rows * width + width - 1)

    def _inside(self, units: _Indices, indices: _Indices) -> _Claims:
        """Leave out what lies past the end of the file, as a block may that reaches past the disk's end."""
        end = (int(units.max()) + 1) * MIB
        inside = units < div_ceil(min(self._rules.file_size, MAX_BLOCK_FILE_OFFSET), MIB)
        return _Claims(units[inside], indices[inside], end)

    def _possible(self, units: _Entries) -> Any:
        limit = div_ceil(min(self._rules.file_size, MAX_BLOCK_FILE_OFFSET), MIB)
        return (units >= HEADER_SECTION_SIZE // MIB) & (units < limit)

    def _overlap_findings(self, map_bytes: int) -> Iterator[Finding]:
        """Find up to MAX_OVERLAPS MiBs that are claimed twice, and by which entries."""
        shared = self._shared_units(map_bytes)
        owners: dict[int, list[int]] = {unit: [] for unit in shared}
        for claims in self._all_claims():
            for unit, index in _owners_in(claims, shared):
                if len(owners[unit]) <= MAX_OVERLAPS:
                    owners[unit].append(index)
        reported: set[tuple[int, int]] = set()
        for unit in shared:
            first, *others = sorted(set(owners[unit]))
            for other in others:
                if (first, other) not in reported:
                    reported.add((first, other))
                    yield self._overlap(first, other, unit * MIB)

    def _shared_units(self, map_bytes: int) -> list[int]:
        import numpy as np

        used = np.zeros(map_bytes, np.uint8)
        shared: dict[int, None] = {}
        for claims in self._all_claims():
            unique, counts = np.unique(claims.units, return_counts=True)
            before = (used[unique >> 3] & _bit_of(unique)) != 0
            shared.update(dict.fromkeys(unique[(counts > 1) | before].tolist()))
            if len(shared) >= MAX_OVERLAPS:
                break
            np.bitwise_or.at(used, unique >> 3, _bit_of(unique))
        return list(shared)[:MAX_OVERLAPS]

    def _all_claims(self) -> Iterator[_Claims]:
        for piece in self._bat.slices():
            if piece.data is not None:
                yield from self._claims(piece, self._rows(piece))

    def _overlap(self, first: int, other: int, file_offset: int) -> Finding:
        where, found = self._name(other), f"{file_offset:#x}, which is in {self._name(first)} too"
        at = self._rules.bat_file_offset + other * BAT_ENTRY_SIZE
        return Finding(RuleCode.BLOCK_OVERLAP, where, at, found)

    def _name(self, index: int) -> str:
        chunk, block = self._geometry.locate_entry(index)
        return self._rules.name_of_bitmap(chunk) if block is None else self._rules.name_of_block(block)


def _bit_of(units: _Indices) -> Any:
    import numpy as np

    return np.left_shift(1, units & 7).astype(np.uint8)


def _free_space(used: npt.NDArray[np.uint8], rules: BlockRules) -> IntervalSet:
    """What neither a block nor a structure owns, from the map of blocks."""
    import numpy as np

    for start, end in zip(rules.structure_starts, rules.structure_ends, strict=True):
        _mark(used, start // MIB, div_ceil(min(end, rules.file_size), MIB))
    _mark(used, 0, HEADER_SECTION_SIZE // MIB)
    free = IntervalSet()
    whole_units = min(rules.file_size, MAX_BLOCK_FILE_OFFSET) // MIB
    for at in range(0, len(used), _FREE_STEP):
        part = used[at : at + _FREE_STEP]
        if not part.any():  # A file can claim to be of 256 TiB at no cost, and must cost no more here.
            if at * 8 < whole_units:
                free.add(at * 8 * MIB, min((at + len(part)) * 8, whole_units) * MIB)
            continue
        bits = np.unpackbits(part, bitorder="little")
        bits = bits[: max(0, whole_units - at * 8)]
        edges = np.flatnonzero(np.diff(bits, prepend=1, append=1))
        for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            free.add((at * 8 + start) * MIB, (at * 8 + end) * MIB)
            if len(free) >= MAX_FREE_RUNS:
                return free
    return free


def _mark(used: npt.NDArray[np.uint8], start: int, end: int) -> None:
    """Set the bits start..end-1."""
    import numpy as np

    if start < end:
        units = np.arange(start, end)
        np.bitwise_or.at(used, units >> 3, _bit_of(units))


def _crowds(kinds: _Indices) -> tuple[_Indices, list[int], list[int]]:
    """Sort suspects by kind: (their order, where each kind begins in it, how many are of it)."""
    import numpy as np

    order = np.argsort(kinds, kind="stable")
    _, starts, sizes = np.unique(kinds[order], return_index=True, return_counts=True)
    return order, starts.tolist(), sizes.tolist()


def _owners_in(claims: _Claims, shared: list[int]) -> Iterator[tuple[int, int]]:
    import numpy as np

    hits = np.flatnonzero(np.isin(claims.units, shared))
    yield from zip(claims.units[hits].tolist(), claims.entry_indices[hits].tolist(), strict=True)


def scan_blocks(bat: BatTable, rules: BlockRules) -> Iterator[Finding]:
    """Judge a whole BAT. Raises: OSError."""
    yield from BlockScan(bat, rules).findings()
