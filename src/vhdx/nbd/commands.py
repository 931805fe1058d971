"""What each command does to a device, and which error the client is told when it fails."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from vhdx.errors import ReadOnlyImageError, RequestError
from vhdx.nbd.constants import Command, CommandFlag, NbdError
from vhdx.nbd.export import MAX_DESCRIPTORS, describe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vhdx._buffer import Buffer
    from vhdx.blockdev.device import DirectDevice
    from vhdx.nbd.transmission import Replies, Request

_STEP: Final = 1 << 30
"""Zeroing and trimming is done in steps of so many bytes, and other requests pass in between."""

_ERRORS: Final[dict[int, NbdError]] = {
    errno.EPERM: NbdError.EPERM,
    errno.EACCES: NbdError.EPERM,
    errno.EROFS: NbdError.EPERM,
    errno.ENOMEM: NbdError.ENOMEM,
    errno.EINVAL: NbdError.EIO,  # the system's opinion of our call, not of the client's
    errno.ENOSPC: NbdError.ENOSPC,
    errno.EDQUOT: NbdError.ENOSPC,
    errno.EFBIG: NbdError.ENOSPC,
    errno.EOPNOTSUPP: NbdError.ENOTSUP,
}


def error_number(error: Exception) -> NbdError:
    """The protocol's number for what went wrong."""
    if isinstance(error, RequestError):
        return NbdError.EINVAL
    if isinstance(error, ReadOnlyImageError):
        return NbdError.EPERM
    if isinstance(error, OSError):
        return _ERRORS.get(error.errno or 0, NbdError.EIO)
    return NbdError.EIO


def perform(
    device: DirectDevice,
    request: Request,
    replies: Replies,
    contexts: Sequence[tuple[int, str]],
    payload: Buffer | None,
) -> list[Buffer]:
    """Do what a judged request asks for, all but reads; return the reply.

    `contexts` are the metadata contexts agreed on, (id, name). Raises: VhdxError, OSError.
    """
    fua = bool(request.flags & CommandFlag.FUA)
    match request.command:
        case Command.WRITE:
            assert payload is not None
            device.pwrite(payload, request.offset, fua=fua)
        case Command.FLUSH:
            device.flush()
        case Command.TRIM:
            for offset, length in _steps(request):
                device.trim(length, offset)
            if fua:
                device.flush()
        case Command.WRITE_ZEROES:
            _write_zeroes(device, request, fua=fua)
        case Command.CACHE:
            device.cache(request.length, request.offset)
        case Command.BLOCK_STATUS:
            return _block_status(device, request, replies, contexts)
    return [replies.done(request)]


def _steps(request: Request) -> list[tuple[int, int]]:
    """(offset, length), at multiples of the step, so that no block is cut."""
    end = request.offset + request.length
    cuts = range((request.offset // _STEP + 1) * _STEP, end, _STEP)
    starts = [request.offset, *cuts]
    return [(start, stop - start) for start, stop in zip(starts, [*cuts, end], strict=True)]


def _write_zeroes(device: DirectDevice, request: Request, *, fua: bool) -> None:
    may_unmap = not request.flags & CommandFlag.NO_HOLE
    if request.flags & CommandFlag.FAST_ZERO:
        # In one go: it is all or nothing, and quick.
        device.write_zeroes(request.length, request.offset, may_unmap=may_unmap, fast_only=True)
    else:
        for offset, length in _steps(request):
            device.write_zeroes(length, offset, may_unmap=may_unmap)
    if fua:
        device.flush()


def _block_status(
    device: DirectDevice, request: Request, replies: Replies, contexts: Sequence[tuple[int, str]]
) -> list[Buffer]:
    limit = 1 if request.flags & CommandFlag.REQ_ONE else MAX_DESCRIPTORS
    answers: list[Buffer] = []
    for number, (context_id, name) in enumerate(contexts, 1):
        pieces = describe(device, name, request.offset, request.length, limit)
        answers.append(replies.status(request, context_id, pieces, last=number == len(contexts)))
    return answers
