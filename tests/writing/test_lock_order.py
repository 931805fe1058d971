"""The locks of a writing session are taken in one order, so that no two threads wait for each other for ever."""

import sys
from collections import defaultdict
from graphlib import TopologicalSorter

from support.units import GIB, MIB
from support.written_images import faults
from vhdx._sync import THREADS, Mutex
from vhdx.disks.chain import open_chain
from vhdx.disks.options import OpenOptions
from vhdx.engine.tuning import Tuning
from vhdx.testing import ImageBuilder


class NotingLock:
    """A lock that tells its kind: the line of code that made it, and others like it."""

    def __init__(self, kind: str, held: list[str], taken_under: dict[str, set[str]]) -> None:
        self._kind, self._held, self._taken_under = kind, held, taken_under
        self._lock = THREADS.lock()

    def __enter__(self) -> bool:
        self._taken_under[self._kind].update(self._held)
        self._held.append(self._kind)
        return self._lock.__enter__()

    def __exit__(self, kind: object, error: object, traceback: object, /) -> object:
        self._held.remove(self._kind)
        return self._lock.__exit__(kind, error, traceback)


class NotingSync:
    """Notes which kinds of locks are held while another one is taken, by the one thread that uses it."""

    wait_until = staticmethod(THREADS.wait_until)

    def __init__(self) -> None:
        self.held: list[str] = []
        self.taken_under: dict[str, set[str]] = defaultdict(set)

    def lock(self) -> Mutex:
        maker = sys._getframe(1)
        while maker.f_code.co_name.startswith("<"):  # a comprehension
            assert maker.f_back is not None
            maker = maker.f_back
        kind = f"{maker.f_locals['self'].__class__.__name__}, line {sys._getframe(1).f_lineno}"
        return NotingLock(kind, self.held, self.taken_under)


def test_no_lock_is_ever_taken_under_one_that_is_elsewhere_taken_under_it() -> None:
    parent = ImageBuilder(128 * GIB, name="parent")
    parent.add_block(7, b"p" * MIB)
    image = ImageBuilder.child_of(parent, block_size=MIB)
    image.add_block(3, b"c" * MIB)
    image.each_header(log_offset=0, log_length=0)
    store, sync = image.build_store(), NotingSync()
    tuning = Tuning(sync=sync, log_capacity=200 * 4096)
    options = OpenOptions(mode="r+", parents=[parent.build_store()], tuning=tuning)
    with open_chain(store, options) as disk:
        disk.pwrite(b"a" * 700, 7 * MIB + 100)
        disk.pwrite(b"a" * MIB, 8 * MIB, fua=True)
        disk.trim(MIB, 3 * MIB)
        disk.write_zeroes(3 * MIB, 6 * MIB + 512, may_unmap=False)
        for number in range(70):  # an entry and a bitmap each: more pages than one entry of the log takes
            disk.pwrite(b"n" * 512, number * GIB)
        disk.flush()
        assert disk.pread(700, 7 * MIB + 512) == bytes(700)
    assert faults(store) == []
    assert not sync.held
    nested = {kind: under for kind, under in sync.taken_under.items() if under}
    assert len(sync.taken_under) == 7, "a block, a bitmap, the session, a commit, its count, space and pages"
    assert max(map(len, nested.values())) >= 4, "space under a block, a bitmap, a commit and the session"
    tuple(TopologicalSorter(nested).static_order())
