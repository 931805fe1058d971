"""Pages of a file's metadata (BAT, sector bitmaps): read on demand, changed in memory, frozen for the log.

A page is 4 KiB of the file at a multiple of 4 KiB: the unit in which the log changes metadata. A bounded number of
clean pages is kept. A changed page stays in memory until a commit has frozen it, logged it, and written it to its
place; until then the file holds an older content.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from vhdx.engine.tuning import DEFAULT_TUNING, Tuning
from vhdx.storage.base import ByteStore, pread_zero_extended

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PAGE_SIZE: Final = 4096

_pack_entry: Final = struct.Struct("<Q").pack


class PageChange(NamedTuple):
    """Bytes to put into the file's metadata. `file_offset` in bytes; may cross pages."""

    file_offset: int
    data: bytes


def entry_change(file_offset: int, entry: int) -> PageChange:
    """The change of one BAT entry."""
    return PageChange(file_offset, _pack_entry(entry))


class PageCache:
    """The metadata pages of one store.

    Finding a clean page takes no lock: it is one look-up in a dict. Where there are too many, the oldest goes.
    """

    def __init__(self, store: ByteStore, tuning: Tuning = DEFAULT_TUNING) -> None:
        self.store = store
        self._capacity = tuning.page_capacity
        self._clean: dict[int, bytes] = {}
        self._dirty: dict[int, bytearray] = {}
        """Changed since the last freeze."""
        self.frozen: dict[int, bytes] = {}
        """Frozen by the running commit, and not yet in place."""
        self._lock = tuning.sync.lock()
        self.cached = self._clean.get
        """The clean page of a number if it is in memory, else None. No Python function is called."""

    def page(self, number: int) -> bytes | bytearray:
        """The 4096 bytes at file offset `number * 4096`; zeroes past the end. Raises: OSError."""
        found = self._clean.get(number)
        if found is not None:
            return found
        with self._lock:
            return self._page(number)

    def _page(self, number: int) -> bytes | bytearray:
        """The newest content. The caller holds the lock: no other thread changes the page while it is read."""
        found = self._dirty.get(number) or self.frozen.get(number) or self._clean.get(number)
        if found is None:
            found = pread_zero_extended(self.store, PAGE_SIZE, number * PAGE_SIZE)
            self._keep(number, found)
        return found

    def _keep(self, number: int, page: bytes) -> None:
        self._clean[number] = page
        while len(self._clean) > self._capacity:
            del self._clean[next(iter(self._clean))]

    def read(self, length: int, file_offset: int) -> bytes:
        """Bytes of the file, assembled from pages."""
        number, start = divmod(file_offset, PAGE_SIZE)
        if start + length <= PAGE_SIZE:
            return bytes(self.page(number)[start : start + length])
        last = (file_offset + length - 1) // PAGE_SIZE
        joined = b"".join(self.page(page) for page in range(number, last + 1))
        return joined[start : start + length]

    def changed(self, start: int, end: int) -> dict[int, bytes]:
        """Pages of a range of the file whose newest content may not be in the file yet, by number."""
        first, last = start // PAGE_SIZE, (end - 1) // PAGE_SIZE
        with self._lock:
            numbers = self._dirty.keys() | self.frozen.keys()
            return {number: bytes(self._page(number)) for number in numbers if first <= number <= last}

    def apply(self, changes: Iterable[PageChange], max_dirty_pages: int) -> bool:
        """Make changes that belong together visible at once.

        False, with nothing changed, if more than `max_dirty_pages` pages would then wait for the log.
        Raises: ValueError for changes that alone are of more pages, OSError; each with nothing changed.
        """
        pages: dict[int, bytearray] = {}
        with self._lock:
            for file_offset, data in changes:
                number, start = divmod(file_offset, PAGE_SIZE)
                while data:
                    page = pages.get(number)
                    if page is None:
                        page = pages[number] = bytearray(self._page(number))
                    part = data[: PAGE_SIZE - start]
                    page[start : start + len(part)] = part
                    data = data[len(part) :]
                    number, start = number + 1, 0
            if len(pages) > max_dirty_pages:
                raise ValueError(
                    f"a change of {len(pages)} pages: at most {max_dirty_pages} are changed at once"
                )
            added = sum(number not in self._dirty for number in pages)
            if len(self._dirty) + added > max_dirty_pages:
                return False
            self._dirty.update(pages)
            for number in pages:
                self._clean.pop(number, None)
        return True

    def freeze(self) -> Mapping[int, bytes]:
        """Take a copy of every changed page, as it is now, for the log.

        The pages stay readable; changes from now on belong to the next freeze.
        """
        with self._lock:
            self.frozen = {number: bytes(page) for number, page in sorted(self._dirty.items())}
            self._dirty.clear()
            return self.frozen

    def thaw(self) -> None:
        """The frozen pages stand in place: from now on they may be dropped and read again."""
        with self._lock:
            for number, page in self.frozen.items():
                if number not in self._dirty:
                    self._keep(number, page)
            self.frozen = {}
