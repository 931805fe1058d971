"""Judges one crash state.

The file must open for writing, pass the check, and hold nothing but what it may hold. A further write and flush must
succeed, and what was written must be there after the next crash, and after a close.
"""

import itertools
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from vhdx.testing.crash.history import Action, ActionPhase, History, Mark
from vhdx.testing.crash.medium import MediaFault
from vhdx.testing.crash.operations import DiskShape
from vhdx.testing.crash.pages import SECTOR_SIZE, Content
from vhdx.testing.crash.recording_store import RecordingStore
from vhdx.testing.crash.stamps import FIRST, stamped_sectors
from vhdx.testing.crash.states import durable_content
from vhdx.testing.crash.subject import CrashDevice, CrashSubject, ReplayEffect

WINDOW: Final = 1 << 16
SMALL_DISK: Final = 1 << 17
"""Disks up to this size are read as a whole; of larger ones, what may hold anything but zeroes."""
FURTHER: Final = 1_000_000
"""Number of the write that follows a crash."""


class Violation(NamedTuple):
    """What is wrong with a crash state."""

    kind: str
    """A few words, the same for all states with the same kind of trouble."""
    detail: str


class Windows:
    """What was read of a disk, piece by piece; zeroes elsewhere."""

    def __init__(self, pieces: dict[int, bytes]) -> None:
        """`pieces`: what was read, by virtual offset, a multiple of WINDOW."""
        self.pieces = pieces

    def windows(self, length: int) -> Iterable[int]:
        """Offsets of the stretches, of a length that is WINDOW, that may hold anything but zeroes."""
        assert length == WINDOW
        return self.pieces.keys()

    def read(self, length: int, offset: int) -> bytes:
        """Bytes that lie in one piece, or in none."""
        start = offset // WINDOW * WINDOW
        piece = self.pieces.get(start)
        if piece is None:
            return bytes(length)
        return piece if length == len(piece) else piece[offset - start : offset - start + length]


class Examined(NamedTuple):
    """A state in which nothing is wrong."""

    windows: Windows
    device: CrashDevice
    """Open."""
    store: RecordingStore


class Oracle:
    """Judges states of one disk."""

    def __init__(self, subject: CrashSubject, shape: DiskShape) -> None:
        self.subject = subject
        self.shape = shape

    def examine(
        self,
        content: Content,
        history: History,
        *,
        label: str = "",
        fault: MediaFault | None = None,
        check: bool = True,
    ) -> Examined | Violation:
        """Open a state, compare what it holds with what it may hold, and check its structures.

        `label` stands before the kind of a violation; `fault`: what the medium has lost; `check`: whether the
        structures are to be checked, too.
        """
        store = RecordingStore(content)
        try:
            device = self.subject.open(store)
        except Exception as error:  # whatever it is, the disk is lost
            return Violation(f"{label}does not open", f"{type(error).__name__}: {error}")
        if store.changes:
            return Violation(f"{label}opening writes", str(store.changes[0]))
        try:
            windows = self._read(device, history, content)
        except Exception as error:
            return Violation(f"{label}does not read", f"{type(error).__name__}: {error}")
        wrong = self._wrong(history, windows)
        if wrong:
            return Violation(f"{label}wrong content", wrong)
        faults = self.subject.faults(content, after_crash=True, fault=fault) if check else ()
        if faults:
            return Violation(f"{label}check finds faults", "; ".join(faults))
        return Examined(windows, device, store)

    def _read(self, device: CrashDevice, history: History, content: Content) -> Windows:
        size = self.shape.size
        everything = range(0, size, WINDOW)
        offsets = everything if size <= SMALL_DISK else sorted(self._interesting(device, history, content))
        return Windows({at: device.pread(min(WINDOW, size - at), at) for at in offsets})

    def _interesting(self, device: CrashDevice, history: History, content: Content) -> set[int]:
        """Windows of a large disk that hold, or should hold, anything but zeroes."""
        # What an action put there, what was there from the beginning, and what is there now for whatever reason.
        found = {*history.touched_windows(WINDOW), *history.initial_windows(WINDOW)}
        contents = [content, *self.subject.parents]
        for extent in device.extents():
            if extent.file_offset is None:
                continue
            start, end = extent.file_offset, extent.file_offset + extent.length
            for run_start, run_end in contents[extent.depth].runs(start, end):
                first = (extent.offset + run_start - start) // WINDOW * WINDOW
                found.update(range(first, extent.offset + run_end - start, WINDOW))
        return {offset for offset in found if offset < self.shape.size}

    def _wrong(self, history: History, windows: Windows) -> str:
        wrong = (history.wrong_sectors(data, offset) for offset, data in windows.pieces.items())
        return "; ".join(map(str, itertools.islice(itertools.chain.from_iterable(wrong), 4)))

    def replay(self, content: Content, examined: Examined) -> ReplayEffect | Violation:
        """Replay the file's log, if it has to be, and once more: the second time must change nothing."""
        effect = self.subject.replay_effect(content, examined.device)
        if effect.replayed is not content:
            again = self.subject.replay_effect(effect.replayed)
            if again.replayed != effect.replayed:
                return Violation("replay", "what a second replay leaves is not what the first one left")
        return effect

    def go_on(self, examined: Examined, choice: int, fault: MediaFault | None) -> Violation | None:
        """Write once more, flush, crash, look; then close, and look again. `choice` picks the place."""
        device, store = examined.device, examined.store
        action = self._further(choice)
        try:
            store.mark(Mark(ActionPhase.BEGUN, action))
            offset = min(action.sectors) * SECTOR_SIZE
            device.pwrite(b"".join(action.sectors.values()), offset)
            store.mark(Mark(ActionPhase.ENDED, action))
            flush = Action(FURTHER + 1, "flush after the crash", flushes=True)
            store.mark(Mark(ActionPhase.BEGUN, flush))
            device.flush()
            store.mark(Mark(ActionPhase.ENDED, flush))
            flushed = len(store.steps)
            device.close()
        except Exception as error:
            return Violation("cannot go on", f"{type(error).__name__}: {error}")
        history = history_at(examined.windows, store)
        durable = durable_content(store.start, store.steps[:flushed])
        after = self.examine(durable, history, label="after a further flush: ", fault=fault, check=False)
        return after if isinstance(after, Violation) else self._closed(store, history, choice, fault)

    def _closed(
        self, store: RecordingStore, history: History, choice: int, fault: MediaFault | None
    ) -> Violation | None:
        faults = self.subject.faults(store.content, fault=fault)
        if faults:
            return Violation("after a close: check finds faults", "; ".join(faults))
        if choice % 4:  # the content has been compared after the flush: a sample is compared once more
            return None
        closed = self.examine(store.content, history, label="after a close: ", check=False)
        return closed if isinstance(closed, Violation) else None

    def _further(self, choice: int) -> Action:
        """A write of one sector, in a place that depends on the state."""
        places: Sequence[int] = range(self.shape.block_count)
        block = places[choice % len(places)]
        start = block * self.shape.block_size // SECTOR_SIZE
        end = min(start + self.shape.block_size // SECTOR_SIZE, self.shape.size // SECTOR_SIZE)
        sector = start + choice // len(places) % min(end - start, 64)
        data = stamped_sectors(FURTHER, sector * SECTOR_SIZE, SECTOR_SIZE, FIRST + FURTHER)
        return Action(FURTHER, "write after the crash", {sector: data})


def history_at(windows: Windows, store: RecordingStore) -> History:
    """What a disk may hold that held this, after all that was done to it since."""
    history = History(windows)
    for step in store.steps:
        history.observe(step.label)
    return history
