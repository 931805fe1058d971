"""Find the active sequence in a log, and replay it in memory ([MS-VHDX] 2.3.2, 2.3.3).

Valid entries never overlap: every sector of an entry but its first begins with the signature of a descriptor
or of a data sector, never with that of an entry. Therefore one pass that checks sector by sector, and stops
at the first wrong one, reads and checksums no byte of the log more than about twice, whatever the log holds.

So a valid entry can follow only the valid entry before it in the ring: it does if that one ends where it begins,
and has the sequence number before. An entry that nothing follows is a head. If its tail lies in the chain that
leads to it, the sequence is complete, and the chain from that tail on is what must be replayed; entries before the
tail are history, even where they adjoin. The search goes from each head backwards: chains to different heads share
no entry, so it is linear, whatever tails the heads name.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from vhdx._units import MIB, align_up
from vhdx.engine.interval_set import IntervalSet
from vhdx.format.checksum import crc32c, structure_checksum
from vhdx.format.constants import LOG_SECTOR_SIZE, MAX_BLOCK_FILE_OFFSET, STRUCTURE_ALIGNMENT
from vhdx.format.header import Header
from vhdx.format.log import (
    DESCRIPTOR_SIZE,
    ENTRY_HEADER_SIZE,
    ENTRY_SIGNATURE,
    Descriptor,
    LogEntryHeader,
    data_sector_fault,
    decode_descriptors,
    descriptor_fault,
    descriptor_sector_count,
    header_fault,
    rebuild_sector,
)
from vhdx.report import Breach
from vhdx.rules import RuleCode
from vhdx.storage.base import ByteStore, StoreKind, pread_zero_extended
from vhdx.storage.overlay import OverlayStore

MAX_DESCRIPTORS: Final = 1 << 20
"""Hardening: data descriptors of a 1 GiB log number at most 2^18; more than this many are a trap."""
MAX_ZERO_RANGES: Final = 1 << 16
"""Hardening: separate zero ranges that one replay may leave."""

_PIECE_SIZE: Final = MIB
_STRUCTURE: Final = "log"


class LogEntry(NamedTuple):
    """A valid entry. `position` and `tail` count bytes from the start of the log; sizes in bytes."""

    position: int
    length: int
    tail: int
    sequence_number: int
    descriptor_count: int
    flushed_file_offset: int
    last_file_offset: int


class Candidate(NamedTuple):
    """What begins like an entry, and the rule that it breaks; None if it is a valid entry."""

    position: int
    header: LogEntryHeader
    fault: RuleCode | None

    @property
    def entry(self) -> LogEntry:
        """The entry that it is, if nothing is wrong with it."""
        header = self.header
        return LogEntry(
            self.position,
            header.entry_length,
            header.tail,
            header.sequence_number,
            header.descriptor_count,
            header.flushed_file_offset,
            header.last_file_offset,
        )


class LogRing:
    """Reading access to the log of one file: a ring of 4 KiB sectors."""

    def __init__(self, store: ByteStore, header: Header, breach: Breach) -> None:
        self.store = store
        self.header = header
        self.file_offset = header.log_offset
        self.length = header.log_length
        self._breach = breach
        self._descriptors_seen = 0

    def read(self, position: int, length: int) -> bytes:
        """Read bytes from a position on, around the end of the ring if need be."""
        position %= self.length
        first = min(length, self.length - position)
        data = pread_zero_extended(self.store, first, self.file_offset + position)
        if first == length:
            return data
        return data + pread_zero_extended(self.store, length - first, self.file_offset)

    def candidates(self, *, any_guid: bool = False) -> Iterator[Candidate]:
        """Judge every sector that begins with an entry's signature, in ring order.

        Entries of former sessions have another GUID, which is their fault; with `any_guid` they are judged like all
        others.
        """
        log_guid = None if any_guid else self.header.log_guid
        for position, sector in self._signed_sectors():
            fault = header_fault(sector, log_guid, self.length)
            header = LogEntryHeader.decode(sector)
            yield Candidate(position, header, fault or self._body_fault(position, header))

    def _signed_sectors(self) -> Iterator[tuple[int, bytes]]:
        for extent in self.store.extents(self.file_offset, self.length):
            if extent.kind is StoreKind.HOLE:
                continue
            # The host's extents may begin and end anywhere, sectors of the log only at multiples of 4 KiB.
            start = (extent.file_offset - self.file_offset) // LOG_SECTOR_SIZE * LOG_SECTOR_SIZE
            end = min(
                align_up(extent.file_offset + extent.length - self.file_offset, LOG_SECTOR_SIZE), self.length
            )
            for piece_at in range(start, end, _PIECE_SIZE):
                piece = self.read(piece_at, min(_PIECE_SIZE, end - piece_at))
                for at in range(0, len(piece), LOG_SECTOR_SIZE):
                    if piece.startswith(ENTRY_SIGNATURE, at):
                        yield piece_at + at, piece[at : at + ENTRY_HEADER_SIZE]

    def _body_fault(self, position: int, header: LogEntryHeader) -> RuleCode | None:
        """Check descriptors, data sectors and checksum of an entry whose header is sound."""
        self._spend(header.descriptor_count)
        head_sectors = descriptor_sector_count(header.descriptor_count)
        data_count, crc, index = 0, 0, 0
        for piece in self._pieces(position, header.entry_length):
            crc = structure_checksum(piece) if index == 0 else crc32c(piece, crc)
            for at in range(0, len(piece), LOG_SECTOR_SIZE):
                sector = piece[at : at + LOG_SECTOR_SIZE]
                if index < head_sectors:
                    for descriptor in _descriptors_of_sector(sector, index, header.descriptor_count):
                        log = (self.file_offset, self.length)
                        fault = descriptor_fault(descriptor, header.sequence_number, log)
                        if fault:
                            return fault
                        data_count += descriptor.is_data
                else:
                    fault = data_sector_fault(sector, header.sequence_number)
                    if fault:
                        return fault
                index += 1
                if (
                    index == head_sectors
                    and (head_sectors + data_count) * LOG_SECTOR_SIZE != header.entry_length
                ):
                    return RuleCode.LOG_ENTRY_LENGTH
        if crc != header.checksum:
            return RuleCode.LOG_ENTRY_CHECKSUM
        return None

    def _pieces(self, position: int, length: int) -> Iterator[bytes]:
        # The first piece is one sector: most sectors that only look like an entry are found out by it, and the
        # length that such a sector claims must not cost a read of that length.
        yield self.read(position, LOG_SECTOR_SIZE)
        done = LOG_SECTOR_SIZE
        piece_size = 4 * LOG_SECTOR_SIZE
        while done < length:
            size = min(piece_size, length - done)
            yield self.read(position + done, size)
            done += size
            piece_size = min(2 * piece_size, _PIECE_SIZE)

    def _spend(self, descriptor_count: int) -> None:
        self._descriptors_seen += descriptor_count
        if self._descriptors_seen > MAX_DESCRIPTORS:
            found = f"more than {MAX_DESCRIPTORS} descriptors"
            self._breach(RuleCode.LOG_SCAN_BUDGET, _STRUCTURE, self.file_offset, found=found)

    def descriptors(self, entry: LogEntry) -> Iterator[tuple[Descriptor, int, int]]:
        """The changes of a valid entry, last first: (descriptor, its position, its data sector's position).

        Last first, because a later change of a sector replaces an earlier one: who has met a sector need not look
        at it again.
        """
        count = entry.descriptor_count
        head_sectors = descriptor_sector_count(count)
        data_at = entry.position + entry.length
        for index in reversed(range(head_sectors)):
            sector_at = (entry.position + index * LOG_SECTOR_SIZE) % self.length
            sector = self.read(sector_at, LOG_SECTOR_SIZE)
            start = ENTRY_HEADER_SIZE if index == 0 else 0
            found = list(_descriptors_of_sector(sector, index, count))
            for number in reversed(range(len(found))):
                if found[number].is_data:
                    data_at -= LOG_SECTOR_SIZE
                yield found[number], sector_at + start + number * DESCRIPTOR_SIZE, data_at % self.length

    def load_sector(self, descriptor_position: int, data_position: int) -> bytes:
        """Rebuild the 4096 bytes of a data descriptor of a valid entry."""
        raw = self.read(descriptor_position, DESCRIPTOR_SIZE)
        (descriptor,) = decode_descriptors(raw, 0, 1)
        return rebuild_sector(
            descriptor.leading, self.read(data_position, LOG_SECTOR_SIZE), descriptor.trailing
        )


def _descriptors_of_sector(sector: bytes, index: int, total: int) -> Iterator[Descriptor]:
    """The descriptors in the `index`-th sector of an entry that has `total` of them."""
    start = ENTRY_HEADER_SIZE if index == 0 else 0
    before = (
        0
        if index == 0
        else index * (LOG_SECTOR_SIZE // DESCRIPTOR_SIZE) - ENTRY_HEADER_SIZE // DESCRIPTOR_SIZE
    )
    count = min(total - before, (LOG_SECTOR_SIZE - start) // DESCRIPTOR_SIZE)
    return decode_descriptors(sector, start, count)


def find_active_sequence(ring: LogRing) -> tuple[LogEntry, ...]:
    """The entries to replay, tail first, head last; empty if the log holds no complete sequence.

    Raises: FormatError through the ring's `breach` if the search would take unbounded work; OSError.
    """
    entries = _valid_entries(ring)
    best: tuple[LogEntry, ...] = ()
    for index, entry in enumerate(entries):
        if best and entry.sequence_number <= best[-1].sequence_number:
            continue
        following = entries[(index + 1) % len(entries)]
        if not _follows(following, entry, ring.length):
            best = _chain_to(entries, index, ring.length) or best
    return best


def _valid_entries(ring: LogRing) -> list[LogEntry]:
    """In ring order."""
    # By position, because a sector that two extents of the host share is met twice.
    entries = {found.position: found.entry for found in ring.candidates() if found.fault is None}
    return list(entries.values())


def _follows(entry: LogEntry, previous: LogEntry, ring_length: int) -> bool:
    is_adjacent = entry.position == (previous.position + previous.length) % ring_length
    return is_adjacent and entry.sequence_number == previous.sequence_number + 1


def _chain_to(entries: list[LogEntry], head_index: int, ring_length: int) -> tuple[LogEntry, ...]:
    """The chain from a head's tail to the head; empty if no chain from there leads to it. `entries` in ring order."""
    head = entry = entries[head_index]
    chain = [head]
    while entry.position != head.tail:
        before = entries[(head_index - len(chain)) % len(entries)]
        if not _follows(entry, before, ring_length):
            return ()
        chain.append(before)
        entry = before
    return tuple(reversed(chain))


@dataclass(frozen=True, slots=True)
class Replay:
    """A dirty log, replayed in memory. Sizes in bytes."""

    entries: tuple[LogEntry, ...]
    store: OverlayStore
    sector_count: int
    """4 KiB sectors that the log replaces."""
    zero_ranges: tuple[tuple[int, int], ...]
    """(start, end) file offsets that the log zeroes, apart from the sectors above."""
    file_size: int
    """What the file's size is after replay."""


def replay_in_memory(store: ByteStore, header: Header, file_size: int, breach: Breach) -> Replay:
    """Replay a log in use into an overlay; nothing is written.

    Raises: FormatError through `breach` if the log has no complete sequence, says that the file was longer,
    or asks for absurd growth; OSError.
    """
    ring = LogRing(store, header, breach)
    entries = find_active_sequence(ring)
    if not entries:
        breach(RuleCode.LOG_NO_SEQUENCE, _STRUCTURE, header.log_offset, found="no complete sequence")
    head = entries[-1]
    _check_file_sizes(head, header, file_size, breach)
    patches, zeroes = _collect(ring, entries, breach)
    new_size = max(file_size, align_up(head.last_file_offset, STRUCTURE_ALIGNMENT))
    if patches:
        new_size = max(new_size, (max(patches) + 1) * LOG_SECTOR_SIZE)
    if new_size > max(file_size, MAX_BLOCK_FILE_OFFSET):
        breach(RuleCode.LOG_GROWTH_LIMIT, _STRUCTURE, header.log_offset, found=f"a size of {new_size:#x}")
    if zeroes:
        new_size = max(new_size, min(zeroes[-1][1], MAX_BLOCK_FILE_OFFSET))

    def load(token: int, into: memoryview) -> None:
        into[:] = ring.load_sector(token & 0xFFFFFFFF, token >> 32)

    overlay = OverlayStore(store, patches=patches, load=load, zeroes=zeroes, size=new_size)
    return Replay(entries, overlay, len(patches), zeroes, new_size)


def _check_file_sizes(head: LogEntry, header: Header, file_size: int, breach: Breach) -> None:
    where = f"log entry at position {head.position:#x}"
    file_offset = header.log_offset + head.position
    flushed, last = head.flushed_file_offset, head.last_file_offset
    if flushed > file_size:
        found = f"{file_size:#x} bytes"
        breach(RuleCode.LOG_FILE_TRUNCATED, where, file_offset, found=found, expected=f">= {flushed:#x}")
    if flushed % STRUCTURE_ALIGNMENT or last % STRUCTURE_ALIGNMENT:
        breach(RuleCode.LOG_OFFSET_ALIGNMENT, where, file_offset, found=f"{flushed:#x} and {last:#x}")


def _collect(
    ring: LogRing, entries: tuple[LogEntry, ...], breach: Breach
) -> tuple[dict[int, int], tuple[tuple[int, int], ...]]:
    """What the entries leave: {sector of the file: data position << 32 | descriptor position}, zero ranges.

    The changes are taken from the last to the first, so what is noted of a sector already is later, and stays.
    """
    patches: dict[int, int] = {}
    zeroes = IntervalSet()
    for entry in reversed(entries):
        for descriptor, descriptor_position, data_position in ring.descriptors(entry):
            if not descriptor.is_data:
                if descriptor.length:
                    zeroes.add(descriptor.file_offset, descriptor.end)
                if len(zeroes) > MAX_ZERO_RANGES:
                    found = f"more than {MAX_ZERO_RANGES} zero ranges"
                    breach(RuleCode.LOG_SCAN_BUDGET, _STRUCTURE, ring.file_offset, found=found)
                continue
            sector = descriptor.file_offset // LOG_SECTOR_SIZE
            if sector not in patches and not zeroes.covers(descriptor.file_offset):
                patches[sector] = data_position << 32 | descriptor_position
    return patches, tuple(zeroes)
