"""What each command but READ does to a device."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from vhdx.blockdev.device import Ability
from vhdx.errors import VhdxError
from vhdx.nbd.export import MAX_DESCRIPTORS, describe
from vhdx.nbd.protocol.constants import Command, CommandFlag

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vhdx._buffer import Buffer
    from vhdx.blockdev.device import DirectDevice
    from vhdx.nbd.answers import Answers
    from vhdx.nbd.ending import Ending
    from vhdx.nbd.protocol.transmission import Request

_TABLE_STEP_BYTES: Final = 4 << 30
"""A range that tables alone turn into zeroes is done in steps of this size, so that other requests pass in between
and the server can be stopped. A multiple of every block size.
"""
_DATA_STEP_BYTES: Final = 256 << 20
"""The same where zeroes have to be written."""


class Commands:
    """Does the commands of one client, all but reads, with a device. Thread-safe."""

    def __init__(
        self,
        device: DirectDevice,
        answers: Answers,
        contexts: Sequence[tuple[int, str]],
        ending: Ending,
    ) -> None:
        """`contexts`: the metadata contexts agreed on, (id, name). A command of many steps ends with `ending`."""
        self._device = device
        self._answers = answers
        self._contexts = contexts
        self._ending = ending

    def answer(self, requests: Sequence[Request], payload: Buffer | None = None) -> list[Buffer]:
        """Do once what all of the requests ask for, which must be alike; return the replies.

        The requests have been judged by `RequestRules`. An error of the device becomes the reply to each of them.
        """
        first, *others = requests
        try:
            replies = self._perform(first, payload)
        except (VhdxError, OSError, EOFError) as error:
            return [self._answers.failed(request, error) for request in requests]
        return replies + [self._answers.done(request) for request in others]

    def _perform(self, request: Request, payload: Buffer | None) -> list[Buffer]:
        """Raises: VhdxError, OSError (ESHUTDOWN when it was given up)."""
        device = self._device
        fua = bool(request.flags & CommandFlag.FUA)
        match request.command:
            case Command.WRITE:
                assert payload is not None
                device.pwrite(payload, request.offset, fua=fua)
            case Command.FLUSH:
                device.flush()
            case Command.TRIM:
                for offset, length in self._steps(request, _TABLE_STEP_BYTES):
                    device.trim(length, offset)
                if fua:
                    device.flush()
            case Command.WRITE_ZEROES:
                self._write_zeroes(request, fua=fua)
            case Command.CACHE:
                device.cache(request.length, request.offset)
            case Command.BLOCK_STATUS:
                return self._block_status(request)
        return [self._answers.done(request)]

    def _steps(self, request: Request, step: int) -> Iterator[tuple[int, int]]:
        """(offset, length), cut at multiples of the step, so that no block is cut. Raises: OSError (ESHUTDOWN)."""
        offset, end = request.offset, request.offset + request.length
        while offset < end:
            if self._ending.has_begun:
                raise OSError(errno.ESHUTDOWN, "given up: the server stops")
            cut = min(end, (offset // step + 1) * step)
            yield offset, cut - offset
            offset = cut

    def _write_zeroes(self, request: Request, *, fua: bool) -> None:
        device = self._device
        may_unmap = not request.flags & CommandFlag.NO_HOLE
        if request.flags & CommandFlag.FAST_ZERO:
            # One call: the client expects all or nothing, and tables alone are quick.
            device.write_zeroes(request.length, request.offset, may_unmap=may_unmap, fast_only=True)
        else:
            by_tables = may_unmap and device.limits.write_zeroes is Ability.NATIVE
            step = _TABLE_STEP_BYTES if by_tables else _DATA_STEP_BYTES
            for offset, length in self._steps(request, step):
                device.write_zeroes(length, offset, may_unmap=may_unmap)
        if fua:
            device.flush()

    def _block_status(self, request: Request) -> list[Buffer]:
        limit = 1 if request.flags & CommandFlag.REQ_ONE else MAX_DESCRIPTORS
        replies: list[Buffer] = []
        for number, (context_id, name) in enumerate(self._contexts, 1):
            pieces = describe(self._device, name, request.offset, request.length, limit)
            is_last = number == len(self._contexts)
            replies.append(self._answers.replies.status(request, context_id, pieces, last=is_last))
        return replies
