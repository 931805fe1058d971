"""Requests and replies as bytes: what the wire says is what comes out, however it is cut into pieces."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vhdx.nbd.protocol.events import Agreement
from vhdx.nbd.protocol.transmission import (
    MAX_PAYLOAD,
    RECEIVE_SIZE,
    ExtendedReplies,
    ProtocolError,
    Request,
    RequestReader,
    RequestRules,
    SimpleReplies,
    StructuredReplies,
    replies_for,
)

READ, WRITE, DISC, FLUSH, TRIM, CACHE, ZEROES, STATUS = range(8)
FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO, PAYLOAD_LEN = (1 << bit for bit in range(6))
EPERM, EINVAL, ENOSPC, EOVERFLOW = 1, 22, 28, 75

requests = st.builds(
    Request,
    command=st.sampled_from((READ, FLUSH, TRIM, CACHE, ZEROES, STATUS)),
    flags=st.sampled_from((0, FUA, DF)),
    cookie=st.integers(0, 2**64 - 1),
    offset=st.integers(0, 2**64 - 1),
    length=st.integers(0, 2**32 - 1),
    payload_length=st.just(0),
)
writes = st.builds(
    lambda cookie, offset, payload: (
        Request(WRITE, 0, cookie, offset, len(payload), len(payload)),
        payload,
    ),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 1),
    st.binary(max_size=300),
)


def spell(request: Request, *, extended: bool) -> bytes:
    """A request as a client sends it."""
    if extended:
        flags = request.flags | (PAYLOAD_LEN if request.command == WRITE else 0)
        magic, form = 0x21E41C71, ">IHHQQQ"
    else:
        flags, magic, form = request.flags, 0x25609513, ">IHHQQI"
    return struct.pack(form, magic, flags, request.command, request.cookie, request.offset, request.length)


@given(
    st.lists(st.one_of(requests.map(lambda request: (request, b"")), writes), max_size=30),
    st.lists(st.integers(1, 400), min_size=1, max_size=20),
    st.booleans(),
)
def test_requests_come_out_as_they_were_sent_however_the_stream_is_cut(
    sent: list[tuple[Request, bytes]], cuts: list[int], extended: bool
) -> None:
    stream = b"".join(spell(request, extended=extended) + payload for request, payload in sent)
    reader = RequestReader(extended=extended)
    found: list[tuple[Request, bytes]] = []
    waiting: Request | None = None
    position = turn = 0
    while True:
        request = reader.request() if waiting is None else waiting
        if request is not None:
            payload = reader.peek(request.payload_length)
            if payload is not None:
                found.append((request, bytes(payload)))
                waiting = None
                continue
            waiting = request
        if position == len(stream):
            break
        piece = stream[position : position + cuts[turn % len(cuts)]]
        reader.space()[: len(piece)] = piece
        reader.received(len(piece))
        position, turn = position + len(piece), turn + 1
    assert [
        (request._replace(flags=request.flags & ~PAYLOAD_LEN), payload) for request, payload in found
    ] == sent


@given(st.binary(max_size=200), st.booleans())
def test_whatever_a_client_sends_is_a_request_or_ends_the_connection(content: bytes, extended: bool) -> None:
    reader = RequestReader(extended=extended, received=content)
    try:
        while (request := reader.request()) is not None:
            reader.skip(request.payload_length)
    except ProtocolError:
        pass
    assert reader.available <= len(content)


def test_a_wrong_magic_is_named() -> None:
    reader = RequestReader(extended=False, received=b"GET / HTTP/1.1\r\nHost: localhost\r\n")
    with pytest.raises(ProtocolError, match="0x47455420, not 0x25609513"):
        reader.request()


def test_a_reader_takes_no_more_than_its_buffer_holds() -> None:
    reader = RequestReader(extended=False)
    room = len(reader.space())
    assert room == RECEIVE_SIZE
    reader.received(room)
    assert len(reader.space()) == 0


def test_a_long_payload_moves_to_its_own_place() -> None:
    head = spell(Request(WRITE, 0, 1, 0, 100_000, 0), extended=False)
    reader = RequestReader(extended=False, received=head + b"x" * 1000)
    request = reader.request()
    assert request is not None
    assert reader.peek(request.payload_length) is None
    payload = bytearray(request.payload_length)
    assert reader.take(memoryview(payload)) == 1000
    assert bytes(payload[:1000]) == b"x" * 1000
    assert reader.available == 0


def test_a_payload_that_a_command_has_no_use_for_is_still_passed_over() -> None:
    flush = struct.pack(">IHHQQQ", 0x21E41C71, PAYLOAD_LEN, FLUSH, 7, 0, 16)
    reader = RequestReader(extended=True, received=flush + bytes(16) + flush)
    request = reader.request()
    assert request is not None
    assert request.payload_length == 16
    assert reader.skip(16) == 16
    again = reader.request()
    assert again is not None
    assert again.cookie == 7


ASKED = Request(READ, 0, 0x1122334455667788, 0x10000, 0x2000, 0)


def test_simple_replies_on_the_wire() -> None:
    replies = SimpleReplies()
    assert replies.done(ASKED).hex() == "67446698000000001122334455667788"
    assert replies.error(ASKED, 28, "no room").hex() == "674466980000001c1122334455667788"
    buffer = bytearray(16)
    replies.put_data_header(buffer, 0, ASKED, 0x10000, 0x2000, last=True)
    assert buffer == replies.done(ASKED)


def test_structured_replies_on_the_wire() -> None:
    replies = StructuredReplies()
    cookie = "1122334455667788"
    assert replies.done(ASKED).hex() == "668e33ef00010000" + cookie + "00000000"
    assert replies.error(ASKED, 5, "oh").hex() == (
        "668e33ef00018001" + cookie + "00000008000000050002" + b"oh".hex()
    )
    assert replies.hole(ASKED, 0x11000, 0x1000, last=False).hex() == (
        "668e33ef00000002" + cookie + "0000000c000000000001100000001000"
    )
    assert replies.status(ASKED, 3, [(0x1000, 0), (0x1000, 3)], last=True).hex() == (
        "668e33ef00010005" + cookie + "000000140000000300001000000000000000100000000003"
    )
    buffer = bytearray(30)
    replies.put_data_header(buffer, 2, ASKED, 0x11000, 0x1000, last=True)
    assert buffer.hex() == "0000668e33ef00010001" + cookie + "000010080000000000011000"
    assert replies.data_header_size == 28


def test_extended_replies_on_the_wire() -> None:
    replies = ExtendedReplies()
    head = "11223344556677880000000000010000"
    assert replies.done(ASKED).hex() == "6e8a278c00010000" + head + "0000000000000000"
    assert replies.hole(ASKED, 0x11000, 0x1000, last=True).hex() == (
        "6e8a278c00010002" + head + "000000000000000c000000000001100000001000"
    )
    assert replies.status(ASKED, 1, [(1 << 40, 3)], last=True).hex() == (
        "6e8a278c00010006" + head + "0000000000000018000000010000000100000100000000000000000000000003"
    )
    buffer = bytearray(40)
    replies.put_data_header(buffer, 0, ASKED, 0x10000, 0x2000, last=True)
    assert buffer.hex() == "6e8a278c00010001" + head + "00000000000020080000000000010000"
    assert replies.data_header_size == 40


@pytest.mark.parametrize(
    ("structured", "extended", "kind"),
    [(False, False, SimpleReplies), (True, False, StructuredReplies), (True, True, ExtendedReplies)],
)
def test_replies_are_of_the_kind_that_was_agreed(structured: bool, extended: bool, kind: type) -> None:
    assert type(replies_for(Agreement("", structured, extended, ()))) is kind


SIZE = 1 << 30


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        ((READ, 0, 0, 4096), 0),
        ((READ, FUA, 0, 4096), 0),
        ((READ, DF, 0, 4096), 0),
        ((READ, 0, SIZE - 1, 1), 0),
        ((READ, 0, SIZE, 1), EINVAL),
        ((READ, 0, SIZE - 1, 2), EINVAL),
        ((READ, 0, 2**64 - 1, 2**32 - 1), EINVAL),
        ((READ, 0, 0, 0), EINVAL),
        ((READ, 0, 0, MAX_PAYLOAD), 0),
        ((READ, 0, 0, MAX_PAYLOAD + 1), EOVERFLOW),
        ((READ, NO_HOLE, 0, 4096), EINVAL),
        ((READ, 1 << 15, 0, 4096), EINVAL),
        ((WRITE, 0, SIZE - 512, 512), 0),
        ((WRITE, 0, SIZE - 512, 513), ENOSPC),
        ((WRITE, 0, 0, MAX_PAYLOAD + 1), EINVAL),
        ((WRITE, DF, 0, 512), EINVAL),
        ((ZEROES, FUA | NO_HOLE | FAST_ZERO, 0, SIZE), 0),
        ((ZEROES, 0, 1, SIZE), ENOSPC),
        ((TRIM, 0, 0, SIZE), 0),
        ((TRIM, 0, 1, SIZE), EINVAL),
        ((CACHE, 0, 0, SIZE), 0),
        ((STATUS, REQ_ONE, 0, SIZE), 0),
        ((STATUS, 0, 0, 0), EINVAL),
        ((FLUSH, 0, 0, 0), 0),
        ((FLUSH, NO_HOLE, 0, 0), EINVAL),
        ((8, 0, 0, 0), EINVAL),
        ((65535, 0, 0, 0), EINVAL),
    ],
)
def test_what_may_be_asked_of_a_writable_export(request_: tuple[int, int, int, int], error: int) -> None:
    rules = RequestRules(SIZE, writable=True, structured=True, extended=True, contexts=True)
    command, flags, offset, length = request_
    assert rules.error(Request(command, flags, 1, offset, length, 0)) == error


@pytest.mark.parametrize("command", [WRITE, TRIM, ZEROES])
def test_a_read_only_export_takes_no_changes(command: int) -> None:
    rules = RequestRules(SIZE, writable=False, structured=True, extended=True, contexts=True)
    assert rules.error(Request(command, 0, 1, 0, 512, 0)) == EPERM
    assert rules.error(Request(FLUSH, 0, 1, 0, 0, 0)) == 0
    assert rules.error(Request(READ, 0, 1, 0, 512, 0)) == 0


def test_what_was_not_agreed_on_cannot_be_asked_for() -> None:
    rules = RequestRules(SIZE, writable=True, structured=False, extended=False, contexts=False)
    assert rules.error(Request(STATUS, 0, 1, 0, 512, 0)) == EINVAL
    assert rules.error(Request(READ, DF, 1, 0, 512, 0)) == EINVAL
    assert rules.error(Request(READ, 0, 1, 0, MAX_PAYLOAD + 1, 0)) == EINVAL
