"""An interrupt at any moment: what it leaves is never file space that two blocks own, nor a block held for ever."""

import errno
import inspect
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import pytest

import vhdx
from support.units import MIB
from support.written_images import faults
from vhdx.testing import ImageBuilder
from vhdx.testing.stores import HostStore, StoreCall

ROOMS = (
    *("interval_set", "page_cache", "blocks/requests", "blocks/block_writer", "blocks/tables"),
    *("session/allocator", "session/in_flight", "session/host_space"),
    *("session/session", "session/commit", "session/poison", "session/log_writer", "session/header_writer"),
)
ENGINE = ("/contextlib.py", *(f"/engine/{room}.py" for room in ROOMS))


def interrupted_at(action: Callable[[], object], nth: int) -> bool:
    """Run an action, and interrupt it at the nth call in the engine's code; whether it came to that.

    Python looks for signals when a function begins and when a call of a built-in one has ended.
    """
    steps = 0

    def profile(frame: FrameType, event: str, _: object) -> None:
        nonlocal steps
        code = frame.f_code
        # A generator that goes on is not interrupted here: from a profiler, it would not see the exception.
        is_step = event == "c_return" or (event == "call" and not code.co_flags & inspect.CO_GENERATOR)
        if is_step and code.co_filename.endswith(ENGINE):
            steps += 1
            if steps == nth:
                raise KeyboardInterrupt

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        action()
    except KeyboardInterrupt:
        pass
    finally:
        sys.setprofile(before)
    return steps >= nth


def disk_with_holes() -> tuple[HostStore, vhdx.Disk]:
    """An image whose free space lies in several pieces, some of it just freed."""
    image = ImageBuilder(24 * MIB)
    for block in range(6):
        image.add_block(block, bytes([block + 1]) * MIB)
        image.content.append((image.allocate(MIB), b"\xd1" * MIB))
    store = HostStore(image.build_store())
    disk = vhdx.open(store, "r+")
    disk.trim(MIB, 0)
    disk.trim(MIB, 3 * MIB)
    disk.flush()
    return store, disk


def trim_and_flush(disk: vhdx.Disk) -> None:
    disk.trim(MIB, 4 * MIB)
    disk.flush()


ACTIONS: dict[str, Callable[[vhdx.Disk], object]] = {
    "allocate": lambda disk: disk.pwrite(b"n" * 512, 8 * MIB),
    "trim": lambda disk: disk.trim(MIB, MIB),
    "zero": lambda disk: disk.write_zeroes(MIB, 2 * MIB),
    "trim and flush": trim_and_flush,
}


@pytest.mark.parametrize("name", ACTIONS)
def test_interrupt_at_any_step_leaves_space_to_one_block_and_no_block_locked(name: str) -> None:
    nth, went_on = 0, 0
    while True:
        nth += 1
        store, disk = disk_with_holes()
        reached = interrupted_at(lambda: ACTIONS[name](disk), nth)  # noqa: B023
        try:
            # All that is free is used up, by blocks that would show a second owner.
            for block in range(10, 20):
                disk.pwrite(bytes([block]) * MIB, block * MIB)
                disk.flush()
            for block in (1, 2, 4, 8):
                disk.pwrite(b"e", block * MIB + 700)
            for block in range(10, 20):
                assert disk.pread(MIB, block * MIB) == bytes([block]) * MIB
            assert disk.pread(MIB, 5 * MIB) == bytes([6]) * MIB
            went_on += 1
        except vhdx.ImagePoisonedError as error:
            assert isinstance(error.__cause__, KeyboardInterrupt)
        disk.close()
        with vhdx.open(store, "r+") as again:
            again.pwrite(b"a", 5 * MIB)
        assert faults(store) == []
        if not reached:
            break
    assert went_on > 10, "an interrupt outside a change of metadata does no harm"


@pytest.mark.parametrize(
    "failure", [OSError(errno.EIO, "bad device"), KeyboardInterrupt()], ids=["error", "interrupt"]
)
def test_interrupt_on_the_way_out_of_a_failed_commit_does_not_hide_the_failure(
    failure: BaseException,
) -> None:
    store = HostStore(ImageBuilder(2048 * MIB).build_store())
    disk = vhdx.open(store, "r+")
    disk.pwrite(b"A" * MIB, 0)

    def fail(call: StoreCall) -> None:
        if call.name == "flush":
            store.before = lambda _: None
            raise failure

    def interrupt(frame: FrameType, event: str, _: object) -> None:
        if (
            event == "call"
            and frame.f_code.co_name == "__exit__"
            and frame.f_code.co_filename.endswith("/poison.py")
        ):
            sys.setprofile(None)
            raise KeyboardInterrupt

    store.before = fail
    sys.setprofile(interrupt)
    with pytest.raises(KeyboardInterrupt):
        disk.flush()
    assert sys.getprofile() is None, "the interrupt came where it was meant to"
    disk.pwrite(b"C" * MIB, 600 * MIB)
    with pytest.raises(vhdx.ImagePoisonedError):  # nobody takes what was lost for durable
        disk.flush()
    disk.close()
    assert faults(store) == []


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt, even where whoever started the tests has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_interrupt_that_meets_a_busy_lock_holds_no_block() -> None:
    store, disk = disk_with_holes()
    writer = disk.images[0].writer
    assert writer is not None
    lock = writer.in_flight.block(1)
    lock.__enter__()
    interrupt = threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGINT))
    let_go = threading.Timer(30.0, lambda: lock.__exit__(None, None, None))
    interrupt.start()
    let_go.start()
    with pytest.raises(KeyboardInterrupt):
        disk.trim(MIB, MIB)  # waits for the block
    interrupt.join()
    let_go.cancel()
    lock.__exit__(None, None, None)
    thread = threading.Thread(target=lambda: disk.trim(MIB, MIB), daemon=True)
    thread.start()
    thread.join(30.0)
    assert not thread.is_alive()
    disk.close()
    assert faults(store) == []
