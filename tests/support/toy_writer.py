"""A tiny journaling store to try the crash kit on: right as it stands, wrong in one place if asked to.

The file: a header sector; a table page of 4 KiB that maps blocks of 4 KiB to places, one byte each; two
journal slots, each with a sealed copy of the table page; the blocks. A flush makes payload durable, then the
journal slot whose turn it is, then puts the table in place, lazily.
"""

import struct
import zlib
from collections.abc import Iterator, Sequence

from vhdx._buffer import Buffer
from vhdx.blockdev.extent import Extent
from vhdx.storage.base import ByteStore, pread_zero_extended
from vhdx.testing.crash import Content, CrashDevice, CrashSubject, MediaFault, RecordingStore, ReplayEffect

BLOCK = 4096
TABLE_AT = 4096
SLOTS_AT = (8192, 8192 + 4096 + 512)
DATA_AT = 32768
_SEAL = struct.Struct("<QI")

FLAWS = (
    "no flush of payload before the journal",
    "the table goes in place before the payload is durable",
    "no flush of the journal at all",
    "the live journal slot is overwritten",
    "freed places are used again at once",
    "new blocks are not zeroed",
    "the flush forgets the table",
)


class ToyDisk:
    """An open toy store of `count` blocks."""

    def __init__(self, store: ByteStore, count: int, flaw: str = "") -> None:
        self.store = store
        self.size = count * BLOCK
        self.flaw = flaw
        self.sequence, self.table = _load(store)
        self.dirty = bytes(self.table) != pread_zero_extended(store, 4096, TABLE_AT)
        self.freed: set[int] = set()
        """Places that the table on disk may still name."""
        self.highest = max(*self.table, (store.size() - DATA_AT + BLOCK - 1) // BLOCK)

    def pread(self, length: int, offset: int) -> bytes:
        result = b""
        while len(result) < length:
            block, within = divmod(offset + len(result), BLOCK)
            count = min(length - len(result), BLOCK - within)
            place = self.table[block]
            at = DATA_AT + (place - 1) * BLOCK + within
            result += pread_zero_extended(self.store, count, at) if place else bytes(count)
        return result

    def extents(self) -> Iterator[Extent]:
        yield Extent(0, self.size, zero=False, hole=False, present=True, depth=0, file_offset=None)

    def pwrite(self, data: Buffer, offset: int, *, fua: bool = False) -> None:
        content = bytes(data)
        done = 0
        while done < len(content):
            block, within = divmod(offset + done, BLOCK)
            piece = content[done : done + BLOCK - within]
            place = self.table[block] or self._allocate()
            self.store.pwrite(piece, DATA_AT + (place - 1) * BLOCK + within)
            if not self.table[block]:
                if self.flaw != "new blocks are not zeroed":
                    self._zero_around(place, within, len(piece))
                self.table[block] = place
                self.dirty = True
            done += len(piece)
        if fua:
            self.flush()

    def _allocate(self) -> int:
        taken = set(self.table)
        if self.flaw != "freed places are used again at once":
            taken |= self.freed
        free = [place for place in range(1, self.highest + 1) if place not in taken]
        if free:
            return int(free[0])
        self.highest += 1
        self.store.truncate(DATA_AT + self.highest * BLOCK)
        return int(self.highest)

    def _zero_around(self, place: int, start: int, length: int) -> None:
        at = DATA_AT + (place - 1) * BLOCK
        self.store.pwrite(bytes(start), at)
        self.store.pwrite(bytes(BLOCK - start - length), at + start + length)

    def write_zeroes(
        self, length: int, offset: int, *, may_unmap: bool = True, fua: bool = False, fast_only: bool = False
    ) -> None:
        self.pwrite(bytes(length), offset, fua=fua)

    def trim(self, length: int, offset: int, *, fua: bool = False) -> None:
        for block in range(-(-offset // BLOCK), (offset + length) // BLOCK):
            if self.table[block]:
                self.freed.add(self.table[block])
                self.table[block] = 0
                self.dirty = True
        if fua:
            self.flush()

    def flush(self) -> None:
        if self.flaw == "the table goes in place before the payload is durable":
            self.store.pwrite(bytes(self.table).ljust(4096, b"\0"), TABLE_AT)
        if self.flaw != "no flush of payload before the journal":
            self.store.flush()
        if not self.dirty or self.flaw == "the flush forgets the table":
            return
        freed = set(self.freed)
        self.sequence += 1
        page = bytes(self.table).ljust(4096, b"\0")
        seal = _SEAL.pack(self.sequence, zlib.crc32(page, self.sequence))
        reused = self.flaw == "the live journal slot is overwritten"
        self.store.pwrite(page + seal.ljust(512, b"\0"), SLOTS_AT[0 if reused else self.sequence % 2])
        if self.flaw != "no flush of the journal at all":
            self.store.flush()
        if reused:
            return
        self.store.pwrite(page, TABLE_AT)
        self.dirty = False
        self.freed -= freed

    def close(self) -> None:
        self.flush()
        self.store.flush()


def _load(store: ByteStore) -> tuple[int, bytearray]:
    """The newest table: that of the sound journal slot with the higher number, or the one in place."""
    best, table = 0, pread_zero_extended(store, 4096, TABLE_AT)
    for slot in SLOTS_AT:
        data = pread_zero_extended(store, 4096 + _SEAL.size, slot)
        sequence, checksum = _SEAL.unpack_from(data, 4096)
        if sequence > best and zlib.crc32(data[:4096], sequence) == checksum:
            best, table = sequence, data[:4096]
    return best, bytearray(table)


class ToySubject(CrashSubject):
    """The toy store for the crash kit."""

    def __init__(self, count: int = 6, flaw: str = "") -> None:
        self.count = count
        self.flaw = flaw

    def open(self, store: ByteStore, sync: object = None) -> CrashDevice:
        return ToyDisk(store, self.count, self.flaw)

    def faults(
        self, content: Content, *, after_crash: bool = False, fault: MediaFault | None = None
    ) -> Sequence[str]:
        _, table = _load(RecordingStore(content))
        places = [place for place in table if place]
        found = ["two blocks in one place"] if len(set(places)) < len(places) else []
        if places and DATA_AT + (max(places) - 1) * BLOCK >= content.size:
            found.append("a block past the end")
        return found

    def replay_effect(self, content: Content, device: CrashDevice | None = None) -> ReplayEffect:
        _, table = _load(RecordingStore(content))
        if bytes(table) == content.read(4096, TABLE_AT):
            return ReplayEffect(False, content)
        replayed = content.copy()
        replayed.write(table, TABLE_AT)
        return ReplayEffect(True, replayed)
