"""Pages of a file's metadata (BAT, sector bitmaps), read on demand and kept in bounded number.

A page is 4 KiB of the file at a multiple of 4 KiB: the unit in which the log changes metadata.
"""

import threading
from typing import Final

from vhdx.storage.base import ByteStore, pread_zero_extended

PAGE_SIZE: Final = 4096
DEFAULT_CAPACITY: Final = 1024


class PageCache:
    """The most recently loaded pages of one store.

    A hit takes no lock: it is one look-up in a dict. The oldest page makes room for a new one.
    """

    __slots__ = ("_capacity", "_lock", "_pages", "_store", "cached")

    def __init__(self, store: ByteStore, capacity: int = DEFAULT_CAPACITY) -> None:
        self._store = store
        self._capacity = capacity
        self._pages: dict[int, bytes] = {}
        self.cached = self._pages.get
        """The page of a number if it is in memory, else None: what `page` asks first, without a call."""
        self._lock = threading.Lock()

    def page(self, number: int) -> bytes:
        """The 4096 bytes at file offset `number * 4096`; zeroes past the end. Raises: OSError."""
        found = self._pages.get(number)
        if found is not None:
            return found
        loaded = pread_zero_extended(self._store, PAGE_SIZE, number * PAGE_SIZE)
        with self._lock:
            self._pages[number] = loaded
            while len(self._pages) > self._capacity:
                del self._pages[next(iter(self._pages))]
        return loaded

    def read(self, length: int, file_offset: int) -> bytes:
        """Bytes of the file, assembled from pages."""
        number, start = divmod(file_offset, PAGE_SIZE)
        if start + length <= PAGE_SIZE:
            return self.page(number)[start : start + length]
        last = (file_offset + length - 1) // PAGE_SIZE
        joined = b"".join(self.page(page) for page in range(number, last + 1))
        return joined[start : start + length]
