"""What a disk may hold after a crash, sector by sector, from the marks of what was asked of it.

Every action marks its beginning and its end in the record of the store. A sector may hold what any action that had
begun left there, unless that action is superseded: another one that began after its end is durable, because it had
force unit access, or because a flush that began after the other's end has completed.

An action that fails, or that is under way when the process is killed, changes nothing afterwards. What a killed
process had done and not flushed may be there or not for ever: no later flush covers it, for part of it was in that
process alone.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NamedTuple, Protocol

from vhdx.testing.crash.pages import SECTOR_SIZE, ZERO_SECTOR
from vhdx.testing.crash.stamps import describe_sector

_STRIDE: Final = 16 * SECTOR_SIZE
_WINDOW: Final = 128
_ZEROES: Final = bytes(_WINDOW * SECTOR_SIZE)


class ZeroedSectors(Mapping[int, bytes]):
    """Zeroes in a range of sectors, however long."""

    def __init__(self, sectors: range) -> None:
        self.range = sectors

    def __getitem__(self, sector: int) -> bytes:
        if sector not in self.range:
            raise KeyError(sector)
        return ZERO_SECTOR

    def __iter__(self) -> Iterator[int]:
        return iter(self.range)

    def __len__(self) -> int:
        return len(self.range)


@dataclass(frozen=True, slots=True, eq=False)
class Action:
    """A request to a disk: it changes sectors, makes everything durable, or changes sectors durably."""

    number: int
    name: str
    sectors: Mapping[int, bytes] = field(default_factory=dict)
    """What it leaves, by virtual offset // 512; zeroes for zeroing and trimming."""
    flushes: bool = False
    """It is a flush, or a close."""
    durable: bool = False
    """It has force unit access: what it leaves is durable when it ends."""

    def __str__(self) -> str:
        return f"{self.name} (action {self.number})"


class ActionPhase(Enum):
    """How far an action has come."""

    BEGUN = "begun"
    ENDED = "ended"
    FAILED = "failed"
    KILLED = "killed"
    """The process was killed: every action that was under way in it is over."""


SESSION_BEGINS: Final = "a session begins"
"""Mark in the record: a device is opened again on the file of another one."""


class Mark(NamedTuple):
    """A mark in the record of a store."""

    phase: ActionPhase
    action: Action

    def __str__(self) -> str:
        return f"{self.action} has {self.phase.value}"


class _Value(NamedTuple):
    action: Action | None
    """None: what was there from the beginning."""
    data: bytes


class WrongSector(NamedTuple):
    """A sector that holds what it must not."""

    sector: int
    found: bytes
    allowed: tuple[str, ...]

    def __str__(self) -> str:
        found = describe_sector(self.found, self.sector)
        return f"sector {self.sector} holds {found}; allowed: {', or '.join(self.allowed)}"


class InitialContent(Protocol):
    """What a disk held to begin with."""

    def read(self, length: int, offset: int) -> bytes:
        """Bytes of the disk."""
        ...

    def windows(self, length: int) -> Iterable[int]:
        """Offsets of the stretches of the disk, of some length, that may hold anything but zeroes."""
        ...


class History:
    """What a disk may hold; is shown the marks of a record one after the other."""

    def __init__(self, initial: InitialContent) -> None:
        self._initial = initial
        self._values: dict[int, list[_Value]] = {}
        self._clock = 0
        self._begun: dict[int, int] = {}
        self._ended: dict[int, int] = {}
        """When actions came to a good end."""
        self._over: dict[int, int] = {}
        """When actions came to any end."""
        self._killed = 0
        """When a process was killed last."""
        self._images: dict[tuple[int, int, int], bytes] = {}
        self._windows: set[int] | None = None
        self._initial_windows: frozenset[int] | None = None

    def initial_windows(self, length: int) -> Iterable[int]:
        """Offsets of the stretches of the disk, always of the same length, that may not have held zeroes at first."""
        if self._initial_windows is None:
            self._initial_windows = frozenset(self._initial.windows(length))
        return self._initial_windows

    def touched_windows(self, length: int) -> Iterable[int]:
        """Offsets of the stretches of the disk, of some length, in which an action put more than zeroes."""
        if self._windows is None:
            per_window = length // SECTOR_SIZE
            self._windows = {
                sector // per_window * length
                for sector, values in self._values.items()
                if any(value.data is not ZERO_SECTOR and value.data != ZERO_SECTOR for value in values)
            }
        return self._windows

    def observe(self, label: object) -> bool:
        """Take account of a mark; tell whether less is allowed than before."""
        if not isinstance(label, Mark):
            return False
        self._clock += 1
        action = label.action
        match label.phase:
            case ActionPhase.BEGUN:
                self._begun[action.number] = self._clock
                for sector in self._told_apart(action.sectors):
                    self._values_of(sector).append(_Value(action, action.sectors[sector]))
                self._images.clear()
                self._windows = None
                return False
            case ActionPhase.ENDED:
                self._ended[action.number] = self._over[action.number] = self._clock
                return self._settle(action)
            case ActionPhase.FAILED:
                self._over[action.number] = self._clock
                return False
            case ActionPhase.KILLED:
                self._killed = self._clock
                self._over.update(dict.fromkeys(self._begun.keys() - self._over.keys(), self._clock))
                return False

    def _values_of(self, sector: int) -> list[_Value]:
        values = self._values.get(sector)
        if values is None:
            values = self._values[sector] = [_Value(None, self._first(sector))]
        return values

    def _told_apart(self, sectors: Mapping[int, bytes]) -> Iterable[int]:
        """Those of an action's sectors in which something else than zeroes is, or was, allowed."""
        if not isinstance(sectors, ZeroedSectors):
            return sectors.keys()
        found = {sector for sector in self._values if sector in sectors.range}
        if len(sectors):
            found.update(self._nonzero(sectors.range))
        return found

    def _nonzero(self, sectors: range) -> Iterator[int]:
        """Sectors of a range that did not hold zeroes in the beginning."""
        for window in range(sectors.start // _WINDOW * _WINDOW, sectors.stop, _WINDOW):
            first, last = max(window, sectors.start), min(window + _WINDOW, sectors.stop)
            data = self._initial.read((last - first) * SECTOR_SIZE, first * SECTOR_SIZE)
            if data != _ZEROES[: len(data)]:
                yield from (first + at // SECTOR_SIZE for at in _differences(data, _ZEROES[: len(data)]))

    def _settle(self, action: Action) -> bool:
        """Drop the values that cannot be there any more since an action has ended."""
        if action.flushes:
            began = self._begun[action.number]
            return self._prune(
                self._values, lambda other: self._killed < self._ended.get(other.number, self._clock) < began
            )
        if action.durable:
            return self._prune(self._told_apart(action.sectors), lambda other: other is action)
        return False

    def _prune(self, sectors: Iterable[int], is_durable: Callable[[Action], bool]) -> bool:
        pruned = False
        for sector in sectors:
            values = self._values[sector]
            if len(values) == 1:
                continue
            limit = max(
                (
                    self._begun[value.action.number]
                    for value in values
                    if value.action and is_durable(value.action)
                ),
                default=0,
            )
            kept = [value for value in values if self._end_of(value) >= limit]
            if len(kept) < len(values):
                self._values[sector] = kept
                pruned = True
        if pruned:
            self._images.clear()
        return pruned

    def _end_of(self, value: _Value) -> int:
        if value.action is None:
            return 0
        return self._over.get(value.action.number, self._clock)

    def _first(self, sector: int) -> bytes:
        return self._initial.read(SECTOR_SIZE, sector * SECTOR_SIZE)

    def latest(self, sector: int) -> bytes:
        """What the last action to begin left in a sector."""
        values = self._values.get(sector)
        return values[-1].data if values else self._first(sector)

    def _image(self, offset: int, length: int, which: int) -> bytes:
        """What a range holds if every action that has begun is kept (`which` -1), or none of them (0)."""
        key = (offset, length, which)
        image = self._images.get(key)
        if image is None:
            image = self._initial.read(length, offset)
            first = offset // SECTOR_SIZE
            touched = self._touched_in(first, first + length // SECTOR_SIZE)
            if touched:
                patched = bytearray(image)
                for sector in touched:
                    at = sector * SECTOR_SIZE - offset
                    patched[at : at + SECTOR_SIZE] = self._values[sector][which].data
                image = bytes(patched)
            self._images[key] = image
        return image

    def _touched_in(self, first: int, last: int) -> list[int]:
        values = self._values
        if last - first < len(values):
            return [sector for sector in range(first, last) if sector in values]
        return [sector for sector in values if first <= sector < last]

    def wrong_sectors(self, data: bytes, offset: int, limit: int = 4) -> list[WrongSector]:
        """Compare what was read from a range (whole sectors) with what is allowed; at most `limit` named."""
        wrong: list[WrongSector] = []
        image = self._image(offset, len(data), -1)
        if data == image or data == self._image(offset, len(data), 0):
            return wrong
        for at in _differences(data, image):
            sector, found = (offset + at) // SECTOR_SIZE, data[at : at + SECTOR_SIZE]
            values = self._values.get(sector, ())
            if all(value.data != found for value in values):
                wrong.append(WrongSector(sector, found, self._names(sector)))
                if len(wrong) == limit:
                    break
        return wrong

    def _names(self, sector: int) -> tuple[str, ...]:
        values = self._values.get(sector) or [_Value(None, self._first(sector))]
        return tuple(
            f"{describe_sector(value.data, sector)} ({value.action or 'from the beginning'})"
            for value in values
        )


def _differences(one: bytes, other: bytes) -> Iterator[int]:
    """Where sectors of two equally long byte strings differ."""
    for start in range(0, len(one), _STRIDE):
        if one[start : start + _STRIDE] != other[start : start + _STRIDE]:
            for at in range(start, min(start + _STRIDE, len(one)), SECTOR_SIZE):
                if one[at : at + SECTOR_SIZE] != other[at : at + SECTOR_SIZE]:
                    yield at
