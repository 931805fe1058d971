"""Reads as replies: in one piece, or in as many as there are data and holes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vhdx.blockdev.device import ZERO
from vhdx.nbd.protocol.constants import CommandFlag

if TYPE_CHECKING:
    from vhdx._buffer import Buffer
    from vhdx.blockdev.device import BlockDevice
    from vhdx.nbd.protocol.transmission import Replies, Request


def may_split(request: Request, replies: Replies) -> bool:
    """Whether a read may be answered in several chunks."""
    return replies.chunked and not request.flags & CommandFlag.DF


def read_parts(
    device: BlockDevice, request: Request, replies: Replies, offset: int, length: int
) -> list[Buffer]:
    """Answer a part of a read, or all of it. Raises: VhdxError, OSError, EOFError."""
    if may_split(request, replies):
        return _read_pieces(device, request, replies, offset, length)
    reply = bytearray(replies.data_header_size + length)
    with memoryview(reply) as view, view[replies.data_header_size :] as data:
        device.pread_into(data, offset)
    replies.put_data_header(reply, 0, request, offset, length, last=True)
    return [reply]


def _read_pieces(
    device: BlockDevice, request: Request, replies: Replies, offset: int, length: int
) -> list[Buffer]:
    parts: list[Buffer] = []
    end = request.offset + request.length
    with device.ranges(offset, length) as ranges:
        for piece in ranges:
            last = offset + piece.length == end
            if piece.store is ZERO:
                parts.append(replies.hole(request, offset, piece.length, last=last))
            else:
                chunk = bytearray(replies.data_header_size + piece.length)
                replies.put_data_header(chunk, 0, request, offset, piece.length, last=last)
                with memoryview(chunk) as view, view[replies.data_header_size :] as data:
                    if piece.store.pread_into(data, piece.file_offset) != piece.length:
                        raise EOFError("the file became shorter while it was open")
                parts.append(chunk)
            offset += piece.length
    return parts
