"""A disk as a stream of bytes, for pipes and other things that cannot seek."""

import errno
import time
from typing import Any, Final, Protocol

from vhdx._buffer import Buffer
from vhdx._units import KIB
from vhdx.blockdev.device import BlockDevice
from vhdx.ops.copying.source_walk import count_data
from vhdx.ops.progress import Progress, no_progress

_CHUNK: Final = 256 * KIB
_TICK_SECONDS: Final = 0.1


class PipeLike(Protocol):
    """A binary file object, of which only `write` is used."""

    def write(self, data: Buffer, /) -> int | None:
        """Write some of `data`, and tell how much; None counts as nothing."""
        ...


def write_to_pipe(source: BlockDevice, pipe: PipeLike, progress: Progress = no_progress) -> None:
    """Write every byte of a disk in order, zeroes included. Leaves the pipe open, after a flush.

    Raises: ParentNotFoundError before anything is written; FormatError, OSError (BrokenPipeError).
    """
    count_data(source)
    buffer, zeroes = bytearray(_CHUNK), bytes(_CHUNK)
    done, told_at = 0, time.monotonic()
    for extent in source.extents():
        for start in range(extent.offset, extent.end, _CHUNK):
            length = min(_CHUNK, extent.end - start)
            with memoryview(zeroes if extent.zero else buffer)[:length] as part:
                if not extent.zero:
                    source.pread_into(part, start)
                _write_all(pipe, part)
            done += length
            if time.monotonic() - told_at > _TICK_SECONDS:
                progress(done, source.size)
                told_at = time.monotonic()
    flush: Any = getattr(pipe, "flush", None)
    if flush is not None:
        flush()
    progress(source.size, source.size)


def _write_all(pipe: PipeLike, view: memoryview) -> None:
    done = 0
    while done < len(view):
        with view[done:] as rest:
            count = pipe.write(rest)
        if not count:
            raise BlockingIOError(errno.EAGAIN, "the pipe takes no more, and does not wait")
        done += count
