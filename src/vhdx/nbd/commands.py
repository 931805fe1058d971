"""What each command does to a device, and which error the client is told when it fails."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from vhdx.blockdev.device import Ability
from vhdx.errors import ReadOnlyImageError, RequestError
from vhdx.nbd.export import MAX_DESCRIPTORS, describe
from vhdx.nbd.protocol.constants import Command, CommandFlag, NbdError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from vhdx._buffer import Buffer
    from vhdx.blockdev.device import DirectDevice
    from vhdx.nbd.protocol.transmission import Replies, Request

_TABLE_STEP: Final = 4 << 30
"""Ranges that tables alone make zeroes are done in steps of so many bytes: others pass in between, and the server
can be stopped. A multiple of every block size.
"""
_DATA_STEP: Final = 256 << 20
"""The same where zeroes have to be written."""

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
    errno.ESHUTDOWN: NbdError.ESHUTDOWN,
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
    goes_on: Callable[[], bool],
) -> list[Buffer]:
    """Do what a judged request asks for, all but reads; return the reply.

    `contexts` are the metadata contexts agreed on, (id, name). What takes many steps is given up when `goes_on`
    says so. Raises: VhdxError, OSError (ESHUTDOWN when given up).
    """
    fua = bool(request.flags & CommandFlag.FUA)
    match request.command:
        case Command.WRITE:
            assert payload is not None
            device.pwrite(payload, request.offset, fua=fua)
        case Command.FLUSH:
            device.flush()
        case Command.TRIM:
            for offset, length in _steps(request, _TABLE_STEP, goes_on):
                device.trim(length, offset)
            if fua:
                device.flush()
        case Command.WRITE_ZEROES:
            _write_zeroes(device, request, goes_on, fua=fua)
        case Command.CACHE:
            device.cache(request.length, request.offset)
        case Command.BLOCK_STATUS:
            return _block_status(device, request, replies, contexts)
    return [replies.done(request)]


def _steps(request: Request, step: int, goes_on: Callable[[], bool]) -> Iterator[tuple[int, int]]:
    """(offset, length), cut at multiples of the step, so that no block is cut. Raises: OSError (ESHUTDOWN)."""
    offset, end = request.offset, request.offset + request.length
    while offset < end:
        if not goes_on():
            raise OSError(errno.ESHUTDOWN, "given up: the server stops")
        cut = min(end, (offset // step + 1) * step)
        yield offset, cut - offset
        offset = cut


def _write_zeroes(device: DirectDevice, request: Request, goes_on: Callable[[], bool], *, fua: bool) -> None:
    may_unmap = not request.flags & CommandFlag.NO_HOLE
    if request.flags & CommandFlag.FAST_ZERO:
        # In one go: it is all or nothing, and quick.
        device.write_zeroes(request.length, request.offset, may_unmap=may_unmap, fast_only=True)
    else:
        by_tables = may_unmap and device.limits.write_zeroes is Ability.NATIVE
        step = _TABLE_STEP if by_tables else _DATA_STEP
        for offset, length in _steps(request, step, goes_on):
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
