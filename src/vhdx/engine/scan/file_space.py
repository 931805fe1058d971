"""Which MiB of a file each block claims, and which are claimed twice. Imported late, because it needs numpy.

File space is counted in a map with one bit for each MiB of file. If fewer bits are set than MiBs were claimed, two
blocks overlap somewhere; only then do two further passes over the table find out which.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from vhdx._units import MIB, div_ceil
from vhdx.engine.scan.slices import Entries, Flags, Indices, Slice, slices, states
from vhdx.findings import Finding
from vhdx.format.bat import MAY_ANCHOR, OWNS_SPACE
from vhdx.format.constants import BAT_ENTRY_SIZE, HEADER_SECTION_SIZE, MAX_BLOCK_FILE_OFFSET
from vhdx.rules import RuleCode

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from vhdx.engine.bat_table import BatTable
    from vhdx.engine.block_rules import BlockRules

MAX_OVERLAPS: Final = 64
"""Overlaps that are named one by one; finding the partners of more would take more passes."""

_MAX_CLAIMED_UNITS: Final = 1 << 19
_MAP_STEP: Final = 1 << 14
_MIB_SHIFT: Final = 20
_OWNS_SPACE: Final = np.array(OWNS_SPACE)
_MAY_ANCHOR: Final = np.array(MAY_ANCHOR)


class Claims(NamedTuple):
    """File space that some entries of one slice claim."""

    units: Indices
    """Numbers of the MiBs of the file, each as often as it is claimed."""
    entry_indices: Indices
    """For each of `units`, the index in the table of the entry that claims it."""
    end: int
    """File offset just past the last of the blocks, even where the file ends before it."""


class SpaceMap:
    """One bit for each MiB of a file: whether a block owns it."""

    def __init__(self, rules: BlockRules) -> None:
        size = div_ceil(min(rules.file_size, MAX_BLOCK_FILE_OFFSET + MIB), 8 * MIB) + 1
        self._bits: npt.NDArray[np.uint8] = np.zeros(size, np.uint8)

    def add(self, units: Indices) -> None:
        """Note MiBs, by number, as owned."""
        np.bitwise_or.at(self._bits, units >> 3, _bit_of(units))

    def holds(self, units: Indices) -> Flags:
        """Which of some MiBs are owned."""
        held: Flags = (self._bits[units >> 3] & _bit_of(units)) != 0
        return held

    def count(self) -> int:
        """Number of MiBs that are owned."""
        return int(np.bitwise_count(self._bits).sum(dtype=np.int64))

    def runs(self) -> Iterator[tuple[int, int]]:
        """Stretches that are owned, ascending: (start, end) in bytes. A long one may come in several parts."""
        for at in range(0, len(self._bits), _MAP_STEP):
            part = self._bits[at : at + _MAP_STEP]
            if not part.any():  # A file can claim to be of 256 TiB at no cost, and must cost no more here.
                continue
            edges = np.flatnonzero(np.diff(np.unpackbits(part, bitorder="little"), prepend=0, append=0))
            for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
                yield (at * 8 + start) * MIB, (at * 8 + end) * MIB


def _bit_of(units: Indices) -> npt.NDArray[np.uint8]:
    bits: npt.NDArray[np.uint8] = np.left_shift(1, units & 7).astype(np.uint8)
    return bits


def claims_of(part: Slice, rules: BlockRules) -> Iterator[Claims]:
    """The MiBs of the file that a slice's entries claim, and by which entry; impossible places excepted.

    In pieces of at most half a million: a slice of large blocks can claim sixty times as many.
    """
    width = part.chunk_ratio + 1
    first_index = part.first_chunk * width
    state = states(part.payload)
    offsets = part.payload >> np.uint64(_MIB_SHIFT)
    owning = _OWNS_SPACE.take(state) | (_MAY_ANCHOR.take(state) & (offsets != 0))
    rows, columns = np.nonzero(owning & _is_possible(offsets, rules))
    starts = offsets[rows, columns].astype(np.int64)
    indices = first_index + rows * width + columns
    per_block = rules.geometry.block_size // MIB
    step = max(1, _MAX_CLAIMED_UNITS // per_block)
    for at in range(0, len(starts), step):
        units = (starts[at : at + step, None] + np.arange(per_block)).reshape(-1)
        yield _inside(units, np.repeat(indices[at : at + step], per_block), rules)
    offsets = part.bitmaps >> np.uint64(_MIB_SHIFT)
    rows = np.flatnonzero(_OWNS_SPACE.take(states(part.bitmaps)) & _is_possible(offsets, rules))
    if len(rows):
        yield _inside(offsets[rows].astype(np.int64), first_index + rows * width + width - 1, rules)


def _inside(units: Indices, indices: Indices, rules: BlockRules) -> Claims:
    """Leave out what lies past the end of the file, as a block may that reaches past the disk's end."""
    end = (int(units.max()) + 1) * MIB
    inside = units < _unit_limit(rules)
    return Claims(units[inside], indices[inside], end)


def _is_possible(units: Entries, rules: BlockRules) -> Flags:
    return (units >= HEADER_SECTION_SIZE // MIB) & (units < _unit_limit(rules))


def _unit_limit(rules: BlockRules) -> int:
    return div_ceil(min(rules.file_size, MAX_BLOCK_FILE_OFFSET), MIB)


def overlap_findings(bat: BatTable, rules: BlockRules) -> Iterator[Finding]:
    """Find up to MAX_OVERLAPS MiBs that are claimed twice, and by which entries. Raises: OSError."""
    shared = _shared_units(bat, rules)
    owners: dict[int, list[int]] = {unit: [] for unit in shared}
    for claims in _all_claims(bat, rules):
        for unit, index in _owners_in(claims, shared):
            if len(owners[unit]) <= MAX_OVERLAPS:
                owners[unit].append(index)
    reported: set[tuple[int, int]] = set()
    for unit in shared:
        first, *others = sorted(set(owners[unit]))
        for other in others:
            if (first, other) not in reported:
                reported.add((first, other))
                yield _overlap(first, other, unit * MIB, rules)


def _shared_units(bat: BatTable, rules: BlockRules) -> list[int]:
    owned = SpaceMap(rules)
    shared: dict[int, None] = {}
    for claims in _all_claims(bat, rules):
        units, counts = np.unique(claims.units, return_counts=True)
        shared.update(dict.fromkeys(units[(counts > 1) | owned.holds(units)].tolist()))
        if len(shared) >= MAX_OVERLAPS:
            break
        owned.add(units)
    return list(shared)[:MAX_OVERLAPS]


def _all_claims(bat: BatTable, rules: BlockRules) -> Iterator[Claims]:
    for part in slices(bat):
        yield from claims_of(part, rules)


def _owners_in(claims: Claims, shared: list[int]) -> Iterator[tuple[int, int]]:
    """(MiB, index of an entry that claims it) for those of `claims` that are shared."""
    hits = np.flatnonzero(np.isin(claims.units, shared))
    yield from zip(claims.units[hits].tolist(), claims.entry_indices[hits].tolist(), strict=True)


def _overlap(first: int, other: int, file_offset: int, rules: BlockRules) -> Finding:
    where, found = (
        rules.name_of_entry(other),
        f"{file_offset:#x}, which is in {rules.name_of_entry(first)} too",
    )
    at = rules.bat_file_offset + other * BAT_ENTRY_SIZE
    return Finding(RuleCode.BLOCK_OVERLAP, where, at, found)
