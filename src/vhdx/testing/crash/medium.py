"""What a medium holds, sector by sector, with a digest that follows every change at the cost of the change.

The digest of a file is the exclusive-or of one 64-bit number for each 512-byte sector that is not zero, and
one for the file's size. So a state that differs from a known one in three sectors is known by its digest
before a byte of it is put together.
"""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

from vhdx._units import div_ceil
from vhdx.testing.crash.pages import PAGE_SIZE, SECTOR_SIZE, ZERO_SECTOR, Content
from vhdx.testing.crash.recording_store import Change, ChangeKind

_PER_PAGE: Final = PAGE_SIZE // SECTOR_SIZE
_ZERO_PAGE: Final = bytes(PAGE_SIZE)


class Sector(NamedTuple):
    """512 bytes, and what they add to the digest in their place."""

    data: bytes
    token: int


ZERO: Final = Sector(ZERO_SECTOR, 0)

Sectors = Mapping[int, Sector]
"""By number: file offset // 512."""


def sector_at(number: int, data: bytes) -> Sector:
    """Make a sector of its bytes."""
    if data == ZERO_SECTOR:
        return ZERO
    digest = blake2b(data, digest_size=8, salt=number.to_bytes(16, "little")).digest()
    return Sector(data, int.from_bytes(digest, "little"))


def sectors_of(data: bytes, file_offset: int) -> dict[int, Sector]:
    """The sectors that a write of whole sectors leaves."""
    first = file_offset // SECTOR_SIZE
    return {
        first + index: sector_at(first + index, data[at : at + SECTOR_SIZE])
        for index, at in enumerate(range(0, len(data), SECTOR_SIZE))
    }


def size_token(size: int) -> int:
    """What a file's size adds to the digest."""
    return int.from_bytes(blake2b(size.to_bytes(8, "little"), digest_size=8).digest(), "little")


class MediaFault(NamedTuple):
    """A piece of a file that the medium lost: it holds garbage from now on."""

    name: str
    file_offset: int
    garbage: bytes

    def is_hit_by(self, change: Change) -> bool:
        """Whether a change is one of the piece."""
        return change.kind is ChangeKind.WRITE and change.file_offset == self.file_offset


class Choice(NamedTuple):
    """A change, and how much of it a crash kept."""

    change: Change
    sectors: frozenset[int] | None = None
    """Those kept, by number; None: all."""
    keeps_size: bool = True
    """Whether the new length of the file was kept."""

    def __str__(self) -> str:
        if self.sectors is None:
            part = ""
        else:
            first = self.change.file_offset // SECTOR_SIZE
            part = f", of its sectors only {sorted(number - first for number in self.sectors)}"
        return f"{self.change}{part}{'' if self.keeps_size else ', size lost'}"


class Delta(NamedTuple):
    """A state of a file: how it differs from what was durable."""

    base: Content
    sectors: dict[int, Sector]
    size: int

    def content(self) -> Content:
        """Put the file together."""
        pages = dict(self.base.pages)
        for page, parts in _by_page(self.sectors).items():
            old = pages.get(page, _ZERO_PAGE)
            joined = b"".join(
                [
                    parts.get(index) or old[index * SECTOR_SIZE : (index + 1) * SECTOR_SIZE]
                    for index in range(_PER_PAGE)
                ]
            )
            if joined == _ZERO_PAGE:
                pages.pop(page, None)
            else:
                pages[page] = joined
        content = Content(pages, max(self.size, self.base.size))
        content.truncate(self.size)
        return content


class Medium:
    """The durable part of a file at one moment of a trace."""

    def __init__(self, start: Content) -> None:
        self.content = start.copy()
        self.tokens: dict[int, int] = {}
        self._digest = 0
        for number, data in start.sectors():
            token = sector_at(number, data).token
            self.tokens[number] = token
            self._digest ^= token

    def copy(self) -> "Medium":
        """A medium of its own that holds the same."""
        other = object.__new__(Medium)
        other.content, other.tokens, other._digest = self.content, dict(self.tokens), self._digest
        return other

    def branch(self, delta: Delta) -> "Medium":
        """A medium of its own in which a state is durable."""
        other = self.copy()
        other.keep(delta)
        return other

    @property
    def digest(self) -> int:
        """Of the content as it is."""
        return self._digest ^ size_token(self.content.size)

    def written_by(self, change: Change, pending: Iterable[Sectors]) -> dict[int, Sector]:
        """Sectors that a change sets; of a range of zeroes, those that may hold something before it."""
        if change.kind is ChangeKind.WRITE:
            return sectors_of(change.data, change.file_offset)
        if change.kind is ChangeKind.TRUNCATE:
            return {}
        first = change.file_offset // SECTOR_SIZE
        last = div_ceil(change.file_offset + change.length, SECTOR_SIZE)
        found = self._held(first, last)
        for sectors in pending:
            found.update(number for number in sectors if first <= number < last)
        return dict.fromkeys(sorted(found), ZERO)

    def _held(self, first: int, last: int) -> set[int]:
        if last - first < len(self.tokens):
            return {number for number in range(first, last) if number in self.tokens}
        return {number for number in self.tokens if first <= number < last}

    def compose(self, choices: Sequence[Choice], written: Mapping[int, Sectors]) -> Delta:
        """What the file differs in when these changes, in order, were kept.

        `written` holds what `written_by` said of each change, by its number.
        """
        sectors: dict[int, Sector] = {}
        size = self.content.size
        for change, kept, keeps_size in choices:
            if change.kind is ChangeKind.TRUNCATE:
                if change.length < size:
                    self._cut(sectors, change.length)
                size = change.length
                continue
            source = written[change.number]
            if kept is None:
                sectors.update(source)
            else:
                for number in kept:
                    sectors[number] = source[number]
            if keeps_size and change.size_after > change.size_before:
                size = max(size, change.file_offset + change.length, change.size_after)
        end = div_ceil(size, SECTOR_SIZE)
        if sectors and max(sectors) >= end:
            sectors = {number: sector for number, sector in sectors.items() if number < end}
        return Delta(self.content, sectors, size)

    def _cut(self, sectors: dict[int, Sector], size: int) -> None:
        """A truncation was kept: neither what was there nor what lay under it comes back."""
        end = div_ceil(size, SECTOR_SIZE)
        for number in [number for number in sectors if number >= end]:
            sectors[number] = ZERO
        sectors.update(dict.fromkeys(self._held(end, div_ceil(self.content.size, SECTOR_SIZE)), ZERO))

    def digest_with(self, delta: Delta) -> int:
        """The digest of a state. Sectors past its end are left out of account: they are not there."""
        digest, tokens = self._digest, self.tokens
        for number, sector in delta.sectors.items():
            digest ^= tokens.get(number, 0) ^ sector.token
        if delta.size < self.content.size:
            end = div_ceil(delta.size, SECTOR_SIZE)
            for number in self._held(end, div_ceil(self.content.size, SECTOR_SIZE)):
                if number not in delta.sectors:
                    digest ^= tokens[number]
        return digest ^ size_token(delta.size)

    def keep(self, delta: Delta) -> None:
        """Make a state the medium's own: its changes have become durable."""
        digest = self.digest_with(delta)
        self.content = delta.content()
        for number, sector in delta.sectors.items():
            if sector.token:
                self.tokens[number] = sector.token
            else:
                self.tokens.pop(number, None)
        end = div_ceil(delta.size, SECTOR_SIZE)
        for number in [number for number in self.tokens if number >= end]:
            del self.tokens[number]
        self._digest = digest ^ size_token(delta.size)


def _by_page(sectors: Sectors) -> dict[int, dict[int, bytes]]:
    pages: dict[int, dict[int, bytes]] = {}
    for number, sector in sectors.items():
        page, index = divmod(number, _PER_PAGE)
        parts = pages.get(page)
        if parts is None:
            parts = pages[page] = {}
        parts[index] = sector.data
    return pages
