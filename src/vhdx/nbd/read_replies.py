"""Spelling reads as replies: in one piece, in as many as there are data and holes, or straight from a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vhdx.blockdev.device import ZERO
from vhdx.nbd.protocol.constants import CommandFlag

if TYPE_CHECKING:
    from vhdx._buffer import Buffer
    from vhdx.blockdev.device import BlockDevice, Place
    from vhdx.nbd.channel import Channel
    from vhdx.nbd.protocol.transmission import Replies, Request


def may_split(request: Request, replies: Replies) -> bool:
    """Whether a read may be answered in several chunks."""
    return replies.chunked and not request.flags & CommandFlag.DF


def read_parts(
    device: BlockDevice, request: Request, replies: Replies, offset: int, length: int
) -> list[Buffer]:
    """Answer a part of a read, or all of it. Raises: VhdxError, OSError, EOFError."""
    if may_split(request, replies):
        return _read_chunks(device, request, replies, offset, length)
    reply = bytearray(replies.data_header_size + length)
    with memoryview(reply) as view, view[replies.data_header_size :] as data:
        device.pread_into(data, offset)
    replies.put_data_header(reply, 0, request, offset, length, last=True)
    return [reply]


def _read_chunks(
    device: BlockDevice, request: Request, replies: Replies, offset: int, length: int
) -> list[Buffer]:
    parts: list[Buffer] = []
    end = request.offset + request.length
    with device.ranges(offset, length) as ranges:
        for found in ranges:
            last = offset + found.length == end
            if found.store is ZERO:
                parts.append(replies.hole(request, offset, found.length, last=last))
            else:
                chunk = bytearray(replies.data_header_size + found.length)
                replies.put_data_header(chunk, 0, request, offset, found.length, last=last)
                with memoryview(chunk) as view, view[replies.data_header_size :] as data:
                    if found.store.pread_into(data, found.file_offset) != found.length:
                        raise EOFError("the file became shorter while it was open")
                parts.append(chunk)
            offset += found.length
    return parts


def send_from_file(
    channel: Channel, request: Request, replies: Replies, offset: int, length: int, place: Place
) -> None:
    """Answer a part of a read, or all of it, with what stands at a place in a file.

    The channel must send files. Raises: ChannelError, also if the file cannot be read.
    """
    header = bytearray(replies.data_header_size)
    is_last = offset + length == request.offset + request.length
    replies.put_data_header(header, 0, request, offset, length, last=is_last)
    channel.send_file(header, place.fd, place.file_offset, length)
