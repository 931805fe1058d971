"""Work in forked children: each starts from this process as it is, and nothing that it changes comes back."""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import connection, get_context
from multiprocessing.process import BaseProcess
from typing import Any, Generic, NamedTuple, TypeVar

_T = TypeVar("_T")
_R = TypeVar("_R")


class _Child(NamedTuple, Generic[_T]):
    item: _T
    process: BaseProcess
    deadline: float


def in_children(
    work: Callable[[_T], _R], items: Iterable[_T], *, jobs: int, timeout: float
) -> Iterator[tuple[_T, _R | Exception]]:
    """Do a work for each item, `jobs` at a time; yield items with results, in the order in which they end.

    In place of a result stands TimeoutError for a child that took more than `timeout` seconds, ChildProcessError for
    one that failed. This process must have one thread only. Raises: OSError.
    """
    waiting = iter(items)
    running: dict[connection.Connection, _Child[_T]] = {}
    try:
        while True:
            while len(running) < jobs and (item := next(waiting, None)) is not None:
                pipe, process = _start(work, item)
                running[pipe] = _Child(item, process, time.monotonic() + timeout)
            if not running:
                return
            for pipe in _ended(running):
                child = running.pop(pipe)
                yield child.item, _result(pipe, child)
    finally:
        for child in running.values():
            child.process.kill()


def _start(work: Callable[[_T], object], item: _T) -> tuple[connection.Connection, BaseProcess]:
    context = get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(work, item, theirs), daemon=True)
    process.start()
    theirs.close()
    return ours, process


def _child(work: Callable[[_T], object], item: _T, pipe: connection.Connection) -> None:
    """Ends the process at once, whatever threads the work has left behind."""
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    try:
        result: Any = work(item)
    except BaseException as error:
        result = ChildProcessError(f"{type(error).__name__}: {error}")
    pipe.send(result)
    os._exit(0)


def _ended(running: dict[connection.Connection, _Child[Any]]) -> list[connection.Connection]:
    """Wait for the next children that have said something, or have ended, or have run out of time."""
    now = time.monotonic()
    first = min(child.deadline for child in running.values())
    ready = connection.wait(list(running), max(0, first - now))
    late = [pipe for pipe, child in running.items() if child.deadline <= time.monotonic()]
    return [pipe for pipe in running if pipe in ready or pipe in late]


def _result(pipe: connection.Connection, child: _Child[Any]) -> Any:
    with pipe:
        try:
            result = pipe.recv() if pipe.poll() else TimeoutError("no end in time")
        except EOFError:
            result = None
    if result is None or isinstance(result, TimeoutError):
        child.process.kill()
    child.process.join()
    return ChildProcessError(f"exit status {child.process.exitcode}") if result is None else result
