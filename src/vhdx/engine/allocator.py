"""File space of one writing session: who gets which bytes of the file, and when freed ones may be used again.

Space is counted in MiB units at MiB offsets. What the file held at open and no structure owns is free, but
dirty, and so is everything freed later: only bytes that this session added to the file are known to be zero.

Freed space passes three gates before it is free: an entry that was frozen after the free is durable
(`freeze`, `settle`), and every operation that may have looked it up has ended (`oldest` of the tickets).
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from vhdx._units import MIB, align_up
from vhdx.engine.interval_set import IntervalSet
from vhdx.format.constants import MAX_BLOCK_FILE_OFFSET

if TYPE_CHECKING:
    from collections.abc import Callable

    from vhdx.engine.in_flight import InFlight
    from vhdx.engine.sync import Sync
    from vhdx.storage.base import ByteStore

GROWTH_SIZE: Final = 64 * MIB
"""The file grows by at least this: a flush is dearer when the file's length has changed."""


class Space(NamedTuple):
    """A piece of the file, in bytes."""

    file_offset: int
    length: int
    known_zero: bool

    @property
    def end(self) -> int:
        """File offset just past it."""
        return self.file_offset + self.length


class _Freed(NamedTuple):
    file_offset: int
    length: int
    ticket: int
    """Operations with an older ticket may still know the space."""


class Allocator:
    """Gives out file space. Thread-safe."""

    def __init__(
        self,
        store: ByteStore,
        file_size: int,
        used_end: int,
        free: IntervalSet,
        in_flight: InFlight,
        sync: Sync,
        on_growth: Callable[[int], None],
        kept_end: int,
    ) -> None:
        """`used_end` is the end of the last structure, `free` what lies unowned in the file; in bytes.

        The file is never made shorter than `kept_end`: what lies unowned beyond it is nothing but zeroes.
        """
        self._store = store
        self._lock = sync.lock()
        self._in_flight = in_flight
        self._on_growth = on_growth
        self._free = free
        self._original_size = file_size
        self._kept_end = kept_end
        self.file_size = file_size
        """Of what growth has returned. The store's own size may tell of one that no flush covers yet."""
        # The void behind it is taken as the end of the file is: in order, and the file grows when it is used up.
        self.used_end = align_up(max(used_end, kept_end), MIB)
        free.clip(self.used_end)
        self._freed: list[_Freed] = []
        self._frozen: list[_Freed] = []
        self._settled: list[_Freed] = []

    def allocate(self, length: int) -> Space:
        """Take space, growing the file if need be. Raises: OSError, with nothing taken."""
        with self._lock:
            self._collect()
            start = self._free.take(length)
            if start is not None:
                return Space(start, length, known_zero=False)
            start = self.used_end
            end = start + length
            if end > self.file_size:
                self._grow(end)
            self.used_end = end
            return Space(start, length, known_zero=start >= self._original_size)

    def _grow(self, end: int) -> None:
        if end > MAX_BLOCK_FILE_OFFSET:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), self._store.name)
        new_size = max(end, align_up(self.file_size + GROWTH_SIZE, MIB))
        try:
            self._store.truncate(new_size)
        except OSError:
            # A quota, or a file system without holes, may have room for what is needed now.
            new_size = end
            self._store.truncate(new_size)
        # In this order: whoever is interrupted in between grows the file once more, and all are told.
        self._on_growth(new_size)
        self.file_size = new_size

    def undo(self, space: Space) -> None:
        """Take back space that no entry was ever made for; it may have been written to."""
        with self._lock:
            self._free.add(space.file_offset, space.end)

    def free(self, file_offset: int, length: int) -> None:
        """Give up space; the change of the entry that named it is in the page cache already."""
        with self._lock:
            self._freed.append(_Freed(file_offset, length, self._in_flight.now()))

    def freeze(self) -> None:
        """Begin a commit, before the pages are frozen: what is freed from now on waits for the next."""
        with self._lock:
            self._frozen += self._freed
            self._freed.clear()

    def settle(self) -> None:
        """The commit's entry is durable."""
        with self._lock:
            self._settled += self._frozen
            self._frozen.clear()

    def reclaim(self) -> None:
        """Give the host space of what has passed every gate back to the host, where it takes it.

        A host that refuses keeps what it has: nothing that is durable depends on it.
        """
        punch = getattr(self._store, "punch_hole", None)
        if punch is None:
            return
        with self._lock:
            ready = self._take_ready()
        # Not free yet: nobody can write to the space while it is punched.
        try:
            with suppress(OSError):
                for freed in ready:
                    punch(freed.length, freed.file_offset)
        finally:
            with self._lock:
                self._add_free(ready)

    def _collect(self) -> None:
        self._add_free(self._take_ready())

    def _take_ready(self) -> list[_Freed]:
        """What has passed every gate."""
        if not self._settled:
            return []
        oldest = self._in_flight.oldest()
        ready = [freed for freed in self._settled if freed.ticket <= oldest]
        self._settled = [freed for freed in self._settled if freed.ticket > oldest]
        return ready

    def _add_free(self, ready: list[_Freed]) -> None:
        for freed in ready:
            self._free.add(freed.file_offset, freed.file_offset + freed.length)

    def final_size(self, *, may_shrink: bool) -> int:
        """How long the file has to be once everything is durable and nobody uses it. Bytes."""
        with self._lock:
            self._collect()
            end = self.used_end
            if self._free.last is not None and self._free.last[1] == end:
                end = self._free.last[0]
            floor = self._kept_end if may_shrink else self._original_size
            return max(end, min(floor, self.file_size))
