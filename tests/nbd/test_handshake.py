"""The handshake, byte by byte, against the protocol's description as `support.nbd_wire` has it."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from struct import pack

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from support import nbd_wire as wire
from vhdx.errors import RequestError
from vhdx.nbd.protocol.constants import OptionReply, TransmissionFlag
from vhdx.nbd.protocol.events import (
    Agreement,
    Close,
    Event,
    ExportOffer,
    OpenExport,
    Send,
    StartTls,
    Transmit,
)
from vhdx.nbd.protocol.handshake import Handshake
from vhdx.nbd.protocol.messages import check_export_name

EXPORTS = {"disk": "the only disk", "däta": ""}
FLAGS = TransmissionFlag.HAS_FLAGS | TransmissionFlag.SEND_FLUSH | TransmissionFlag.BLOCK_STATUS_PAYLOAD
OFFER = ExportOffer(
    size=5 << 40,
    flags=FLAGS,
    minimum_block_bytes=1,
    preferred_block_bytes=4096,
    maximum_payload_bytes=32 << 20,
    description="opened",
    contexts=("base:allocation", "vhdx:depth"),
)
PLAIN_AGREEMENT = Agreement("disk", structured=False, extended=False, contexts=())
SIZE_INFO = pack(">HIII", 3, 1, 4096, 32 << 20)


def export_info(flags: int = 0x5) -> bytes:
    return pack(">HQH", 0, 5 << 40, flags)


def new(*, tls: bool = False, default: str | None = "disk") -> Handshake:
    return Handshake(EXPORTS, tls=tls, default_export=default)


def events_left(handshake: Handshake) -> list[Event]:
    """Take the events that there are, without acting on them."""
    return list(iter(handshake.next_event, None))


def hear(handshake: Handshake, data: bytes) -> list[Event]:
    """Receive bytes; return the events, without acting on them."""
    handshake.receive(data)
    return events_left(handshake)


def answer(handshake: Handshake, data: bytes) -> Iterator[Event]:
    """Receive bytes; act on the events as a server whose exports all open, and show them."""
    handshake.receive(data)
    while event := handshake.next_event():
        yield event
        match event:
            case OpenExport():
                handshake.opened(OFFER)
            case StartTls():
                handshake.tls_started()


def events_of(*messages: bytes, handshake: Handshake | None = None) -> list[Event]:
    """Return all events of a conversation in which the client sends each message in a piece of its own."""
    handshake = handshake or new()
    events: list[Event] = []
    for message in (wire.flags(), *messages):
        events += answer(handshake, message)
    return events


def sent(events: Iterable[Event]) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, Send))


def replies_to(*messages: bytes, handshake: Handshake | None = None) -> list[wire.OptionReply]:
    return list(wire.replies(sent(events_of(*messages, handshake=handshake))))


def kinds(*messages: bytes, handshake: Handshake | None = None) -> list[int]:
    return [reply.kind for reply in replies_to(*messages, handshake=handshake)]


def agreement_of(*messages: bytes) -> Agreement:
    last = events_of(*messages)[-1]
    assert isinstance(last, Transmit), last
    return last.agreement


def go(name: bytes = b"disk", wanted: Sequence[int] = ()) -> bytes:
    return wire.option(wire.GO, wire.info_payload(name, wanted))


def set_contexts(*queries: bytes, name: bytes = b"disk") -> bytes:
    return wire.option(wire.SET_CONTEXTS, wire.context_payload(name, queries))


def list_contexts(*queries: bytes, name: bytes = b"disk") -> bytes:
    return wire.option(wire.LIST_CONTEXTS, wire.context_payload(name, queries))


STRUCTURED = wire.option(wire.STRUCTURED_REPLY)
EXTENDED = wire.option(wire.EXTENDED_HEADERS)
STARTTLS = wire.option(wire.STARTTLS)
LIST = wire.option(wire.LIST)
IN_STEP = [wire.SERVER, wire.SERVER, wire.ACK]
"""What a LIST is answered with: shows that the stream is in step."""


# Every option


def test_server_greets_first() -> None:
    assert new().greeting() == wire.GREETING


def test_list_shows_all_exports_with_their_descriptions() -> None:
    assert sent(events_of(LIST)) == (
        wire.reply(wire.LIST, wire.SERVER, wire.string(b"disk") + b"the only disk")
        + wire.reply(wire.LIST, wire.SERVER, wire.string("däta".encode()))
        + wire.reply(wire.LIST, wire.ACK)
    )


def test_go_tells_size_and_constraints_and_ends_the_handshake() -> None:
    assert events_of(go()) == [
        OpenExport("disk"),
        Send(
            wire.reply(wire.GO, wire.INFORMATION, export_info())
            + wire.reply(wire.GO, wire.INFORMATION, SIZE_INFO)
            + wire.reply(wire.GO, wire.ACK)
        ),
        Transmit(PLAIN_AGREEMENT),
    ]


def test_info_tells_what_is_wanted_and_the_handshake_goes_on() -> None:
    ask = wire.option(wire.INFO, wire.info_payload(b"", [1, 2, 3, 2, 999]))
    expected = [export_info(), b"\0\x01disk", b"\0\x02opened", SIZE_INFO]
    events = events_of(ask, LIST)
    assert events[0] == OpenExport("disk")
    replies = list(wire.replies(sent(events)))
    assert [reply.payload for reply in replies[:4]] == expected
    assert [reply.kind for reply in replies] == [wire.INFORMATION] * 4 + [wire.ACK, *IN_STEP]


def test_go_tells_the_same_as_info() -> None:
    told = [
        [(reply.kind, reply.payload) for reply in replies_to(STRUCTURED, set_contexts(b"vhdx:depth"), ask)]
        for ask in (go(wanted=[1, 2]), wire.option(wire.INFO, wire.info_payload(b"disk", [1, 2])))
    ]
    assert told[0] == told[1]


@pytest.mark.parametrize("no_zeroes", [False, True])
def test_export_name_is_answered_with_padding_unless_the_client_declines_it(no_zeroes: bool) -> None:
    handshake = new()
    data = wire.flags(no_zeroes=no_zeroes) + wire.option(wire.EXPORT_NAME, b"disk")
    assert list(answer(handshake, data)) == [
        OpenExport("disk"),
        Send(pack(">QH", 5 << 40, 0x5) + bytes(0 if no_zeroes else 124)),
        Transmit(PLAIN_AGREEMENT),
    ]


def test_export_name_works_for_a_client_that_knows_nothing_else() -> None:
    handshake = new()
    data = wire.flags(fixed=False) + wire.option(wire.EXPORT_NAME)
    assert list(answer(handshake, data))[-1] == Transmit(PLAIN_AGREEMENT)


def test_other_options_of_a_client_that_is_not_fixed_newstyle_end_the_connection() -> None:
    handshake = new()
    events = hear(handshake, wire.flags(fixed=False) + LIST)
    assert [type(event) for event in events] == [Close]


@pytest.mark.parametrize("payload", [b"", b"bye", bytes(70_000)])
def test_abort_is_acknowledged_whatever_it_carries(payload: bytes) -> None:
    events = events_of(wire.option(wire.ABORT, payload))
    assert events[0] == Send(wire.reply(wire.ABORT, wire.ACK))
    assert [type(event) for event in events] == [Send, Close]


@pytest.mark.parametrize("number", [0, wire.PEEK, 12, 0xFFFFFFFF])
@pytest.mark.parametrize("payload", [b"", b"whatever", bytes(70_000)])
def test_unknown_option_is_unsupported(number: int, payload: bytes) -> None:
    replies = replies_to(wire.option(number, payload), LIST)
    assert replies[0][:2] == (number, wire.UNSUP)
    assert [reply.kind for reply in replies[1:]] == IN_STEP


def test_structured_replies_bring_unfragmented_reads() -> None:
    assert agreement_of(STRUCTURED, go()) == Agreement("disk", True, False, ())
    assert replies_to(STRUCTURED, go())[1].payload == export_info(0x85)


def test_extended_headers_imply_structured_replies() -> None:
    assert agreement_of(EXTENDED, go()) == Agreement("disk", True, True, ())
    assert agreement_of(STRUCTURED, EXTENDED, go()) == Agreement("disk", True, True, ())
    assert replies_to(EXTENDED, go())[1].payload == export_info(0x85)


def test_export_name_cannot_be_had_behind_extended_headers() -> None:
    assert [type(event) for event in events_of(EXTENDED, wire.option(wire.EXPORT_NAME))] == [Send, Close]


def test_structured_replies_cannot_be_had_behind_extended_headers() -> None:
    assert kinds(EXTENDED, STRUCTURED, LIST) == [wire.ACK, wire.EXT_REQD, *IN_STEP]
    assert agreement_of(EXTENDED, STRUCTURED, go()).extended


def test_status_of_chosen_contexts_is_offered_to_those_who_can_ask() -> None:
    chosen = set_contexts(b"base:allocation")
    assert replies_to(EXTENDED, chosen, go())[3].payload == export_info(0x1085)
    assert replies_to(STRUCTURED, chosen, go())[3].payload == export_info(0x85)
    assert replies_to(EXTENDED, go())[1].payload == export_info(0x85)


# Names


@pytest.mark.parametrize(
    ("name", "found"), [(b"disk", "disk"), ("däta".encode(), "däta"), (b"", "disk"), (b"other", None)]
)
def test_export_is_found_by_its_name_or_by_default(name: bytes, found: str | None) -> None:
    opened = [event for event in events_of(go(name)) if isinstance(event, OpenExport)]
    assert opened == ([] if found is None else [OpenExport(found)])


def test_export_that_is_named_nothing_comes_before_the_default() -> None:
    handshake = Handshake({"": "", "disk": ""}, tls=False, default_export="disk")
    assert events_of(go(b""), handshake=handshake)[0] == OpenExport("")


@pytest.mark.parametrize("ask", [wire.GO, wire.INFO, wire.LIST_CONTEXTS, wire.SET_CONTEXTS])
@pytest.mark.parametrize("name", [b"other", b""])
def test_export_that_does_not_exist_is_unknown(ask: int, name: bytes) -> None:
    payload = wire.info_payload(name) if ask in (wire.GO, wire.INFO) else wire.context_payload(name)
    asked = wire.option(ask, payload)
    assert kinds(STRUCTURED, asked, LIST, handshake=new(default=None)) == [wire.ACK, wire.UNKNOWN, *IN_STEP]


@pytest.mark.parametrize("name", [b"other", b"", b"\xff", b"di\0sk", b"n" * 4097, b"n" * 65537])
def test_export_name_that_does_not_exist_ends_the_connection(name: bytes) -> None:
    events = events_of(wire.option(wire.EXPORT_NAME, name), handshake=new(default=None))
    assert [type(event) for event in events] == [Close]


@pytest.mark.parametrize("name", [b"\xff", b"\xed\xa0\x80", b"di\0sk", b"n" * 4097])
def test_name_that_is_no_string_is_invalid(name: bytes) -> None:
    assert kinds(go(name), list_contexts(name=name), LIST) == [wire.INVALID, wire.INVALID, *IN_STEP]
    assert kinds(STRUCTURED, set_contexts(name), list_contexts(name)) == [wire.ACK] + [wire.INVALID] * 2


def test_longest_name_is_merely_unknown() -> None:
    assert kinds(go(b"n" * 4096)) == [wire.UNKNOWN]


@pytest.mark.parametrize("name", ["", "disk", "ü" * 2048, "a b\n"])
def test_name_that_clients_can_be_told_is_accepted(name: str) -> None:
    check_export_name(name)


@pytest.mark.parametrize("name", ["ü" * 2049, "a\0b", "\udcff"])
def test_name_that_clients_cannot_be_told_is_refused(name: str) -> None:
    with pytest.raises(RequestError, match="give a"):
        check_export_name(name)


# Metadata contexts


def contexts_in(replies: Iterable[wire.OptionReply]) -> list[bytes]:
    return [reply.payload for reply in replies if reply.kind == wire.CONTEXT]


@pytest.mark.parametrize(
    ("queries", "found"),
    [
        ([], [b"base:allocation", b"vhdx:depth"]),
        ([b"base:"], [b"base:allocation"]),
        ([b"vhdx:"], [b"vhdx:depth"]),
        ([b"vhdx:depth", b"vhdx:", b"base:allocation"], [b"base:allocation", b"vhdx:depth"]),
        ([b"base:dirty", b"qemu:", b"base", b"", b":", b"BASE:"], []),
    ],
)
def test_contexts_are_listed_by_query(queries: list[bytes], found: list[bytes]) -> None:
    replies = replies_to(list_contexts(*queries))
    assert contexts_in(replies) == [bytes(4) + name for name in found]
    assert replies[-1] == (wire.LIST_CONTEXTS, wire.ACK, b"")


@pytest.mark.parametrize(
    ("queries", "chosen"),
    [
        ([], []),
        ([b"base:allocation"], [(1, "base:allocation")]),
        ([b"vhdx:depth", b"qemu:dirty"], [(2, "vhdx:depth")]),
        ([b"vhdx:depth", b"base:allocation"] * 3, [(1, "base:allocation"), (2, "vhdx:depth")]),
        ([b"base:", b"vhdx:", b"vhdx:depth:"], []),
    ],
)
def test_contexts_are_selected_by_their_whole_names(
    queries: list[bytes], chosen: list[tuple[int, str]]
) -> None:
    replies = replies_to(STRUCTURED, set_contexts(*queries))
    assert contexts_in(replies) == [pack(">I", number) + name.encode() for number, name in chosen]
    assert replies[-1] == (wire.SET_CONTEXTS, wire.ACK, b"")
    for name in (b"disk", b""):
        assert agreement_of(STRUCTURED, set_contexts(*queries, name=name), go()).contexts == tuple(chosen)


def test_contexts_hold_only_for_the_export_they_were_selected_for() -> None:
    other = "däta".encode()
    assert not agreement_of(STRUCTURED, set_contexts(b"vhdx:depth", name=other), go()).contexts
    assert agreement_of(STRUCTURED, set_contexts(b"vhdx:depth", name=other), go(other)).contexts


@pytest.mark.parametrize(
    "second",
    [
        set_contexts(),
        set_contexts(b"base:other"),
        set_contexts(b"vhdx:depth", name=b"other"),
        wire.option(wire.SET_CONTEXTS, b"junk"),
        wire.option(wire.SET_CONTEXTS, bytes(65537)),
    ],
)
def test_second_selection_replaces_the_first_even_if_it_fails(second: bytes) -> None:
    assert not agreement_of(STRUCTURED, set_contexts(b"vhdx:depth"), second, go()).contexts


def test_selection_outlives_options_that_do_not_concern_it() -> None:
    first = set_contexts(b"vhdx:depth")
    assert agreement_of(STRUCTURED, first, list_contexts(b"base:"), EXTENDED, go()).contexts


def test_contexts_need_structured_replies() -> None:
    chosen = set_contexts(b"base:allocation")
    assert kinds(chosen, LIST) == [wire.INVALID, *IN_STEP]
    assert not agreement_of(chosen, STRUCTURED, go()).contexts
    assert agreement_of(EXTENDED, chosen, go()).contexts


# What clients get wrong


@pytest.mark.parametrize("number", [wire.LIST, wire.STRUCTURED_REPLY, wire.EXTENDED_HEADERS, wire.STARTTLS])
def test_payload_where_none_may_be_is_invalid(number: int) -> None:
    assert kinds(wire.option(number, b"x"), LIST) == [wire.INVALID, *IN_STEP]
    assert agreement_of(wire.option(number, b"x"), go()) == PLAIN_AGREEMENT


@pytest.mark.parametrize("number", [wire.INFO, wire.GO, wire.LIST_CONTEXTS, wire.SET_CONTEXTS])
def test_payload_that_is_cut_short_or_too_long_is_invalid(number: int) -> None:
    if number in (wire.INFO, wire.GO):
        whole = wire.info_payload(b"disk", [1, 3])
    else:
        whole = wire.context_payload(b"disk", [b"base:allocation", b"vhdx:depth"])
    bad = [whole[:length] for length in range(len(whole))] + [whole + b"\0"]
    bad.append(b"\xff" * 4 + whole[4:])
    replies = kinds(STRUCTURED, *(wire.option(number, payload) for payload in bad), LIST)
    assert replies == [wire.ACK] + [wire.INVALID] * len(bad) + IN_STEP


def test_count_of_queries_that_are_not_there_is_invalid() -> None:
    payload = wire.string(b"disk") + pack(">I", 0xFFFFFFFF)
    assert kinds(wire.option(wire.LIST_CONTEXTS, payload), LIST) == [wire.INVALID, *IN_STEP]


@pytest.mark.parametrize("length", [65537, 1 << 20])
@pytest.mark.parametrize("number", [wire.LIST, wire.GO, wire.SET_CONTEXTS, wire.STARTTLS])
def test_payload_that_is_too_big_is_passed_over(number: int, length: int) -> None:
    handshake = new()
    assert not events_of(wire.option(number, b"", length), handshake=handshake)
    for _ in range((length - 1) // 4096):
        assert not hear(handshake, bytes(4096))
        assert not handshake.unread
    events = hear(handshake, bytes((length - 1) % 4096 + 1) + LIST)
    assert [reply.kind for reply in wire.replies(sent(events))] == [wire.TOO_BIG, *IN_STEP]


def test_payload_of_the_greatest_length_is_looked_at() -> None:
    assert kinds(wire.option(wire.LIST, bytes(65536)), LIST) == [wire.INVALID, *IN_STEP]


@pytest.mark.parametrize("length", [(1 << 20) + 1, 0xFFFFFFFF])
def test_payload_that_is_bigger_than_reason_ends_the_connection(length: int) -> None:
    (event,) = events_of(wire.option(wire.LIST, b"", length))
    assert isinstance(event, Close)
    assert str(length) in event.reason


@pytest.mark.parametrize("magic", [bytes(8), b"IHAVEOPU", wire.REPLY_MAGIC])
def test_wrong_magic_ends_the_connection(magic: bytes) -> None:
    assert [type(event) for event in events_of(LIST, magic + LIST[8:])] == [Send, Close]


@pytest.mark.parametrize("flags", [4, 7, 0x80000000, 0xFFFFFFFF])
def test_unknown_client_flags_end_the_connection(flags: int) -> None:
    (event,) = hear(new(), pack(">I", flags) + LIST)
    assert isinstance(event, Close)
    assert "flags" in event.reason


def test_number_of_options_is_limited() -> None:
    handshake = new()
    events = hear(handshake, wire.flags() + LIST * 1100)
    assert sum(isinstance(event, Send) for event in events) == 1024
    assert isinstance(events[-1], Close)


def test_replies_are_made_only_when_they_can_be_sent() -> None:
    handshake = new()
    handshake.receive(wire.flags() + LIST * 1000)
    assert isinstance(handshake.next_event(), Send)
    assert len(handshake.unread) == 999 * len(LIST)


def test_log_line_of_a_long_name_is_short() -> None:
    (event,) = events_of(wire.option(wire.EXPORT_NAME, b"\n" * 4096))
    assert isinstance(event, Close)
    assert "\n" not in event.reason
    assert len(event.reason) < 300


# Opening an export


def test_client_waits_while_an_export_is_opened() -> None:
    handshake = new()
    ask = wire.option(wire.INFO, wire.info_payload(b"disk"))
    assert hear(handshake, wire.flags() + ask + LIST) == [OpenExport("disk")]
    assert not hear(handshake, LIST)
    handshake.opened(OFFER)
    events = events_left(handshake)
    assert [reply.kind for reply in wire.replies(sent(events))] == [wire.INFORMATION] * 2 + [
        wire.ACK,
        *IN_STEP,
        *IN_STEP,
    ]


def test_export_that_cannot_be_opened_is_refused_and_the_handshake_goes_on() -> None:
    handshake = new()
    assert hear(handshake, wire.flags() + go() + LIST) == [OpenExport("disk")]
    handshake.refused(OptionReply.ERR_POLICY, "in use")
    events = events_left(handshake)
    assert events[0] == Send(wire.reply(wire.GO, wire.POLICY, b"in use"))
    assert [reply.kind for reply in wire.replies(sent(events[1:]))] == IN_STEP
    assert list(answer(handshake, go()))[-1] == Transmit(PLAIN_AGREEMENT)


def test_refused_export_name_ends_the_connection() -> None:
    handshake = new()
    hear(handshake, wire.flags() + wire.option(wire.EXPORT_NAME, b"disk"))
    handshake.refused(OptionReply.ERR_POLICY, "in use")
    events = events_left(handshake)
    assert [type(event) for event in events] == [Close]


def test_message_to_the_client_is_cut_to_a_whole_character() -> None:
    handshake = new()
    hear(handshake, wire.flags() + go())
    handshake.refused(OptionReply.ERR_UNKNOWN, "x\0\udcff" + "ü" * 5000)
    (event,) = events_left(handshake)
    assert isinstance(event, Send)
    (reply,) = wire.replies(event.data)
    assert reply.payload.decode() == "x?" + "ü" * 2047


@pytest.mark.parametrize("ask", [go(), wire.option(wire.EXPORT_NAME)])
def test_requests_sent_early_are_kept(ask: bytes) -> None:
    handshake = new()
    events = list(answer(handshake, wire.flags() + ask + b"first request"))
    assert isinstance(events[-1], Transmit)
    assert handshake.unread == b"first request"


def test_requests_sent_while_the_export_is_opened_are_kept() -> None:
    handshake = new()
    hear(handshake, wire.flags() + go() + b"one,")
    assert not hear(handshake, b"two")
    handshake.opened(OFFER)
    assert isinstance(events_left(handshake)[-1], Transmit)
    assert handshake.unread == b"one,two"


def test_what_is_sent_while_an_export_is_opened_is_bounded() -> None:
    handshake = new()
    hear(handshake, wire.flags() + go())
    for _ in range(16):
        assert not hear(handshake, bytes(65536))
    assert [type(event) for event in hear(handshake, b"x")] == [Close]


@pytest.mark.parametrize("opens", [True, False])
def test_many_exports_asked_for_at_once_are_answered_one_after_the_other(opens: bool) -> None:
    handshake = new()
    handshake.receive(wire.flags() + wire.option(wire.INFO, wire.info_payload(b"disk")) * 1000)
    for _ in range(1000):
        assert handshake.next_event() == OpenExport("disk")
        assert handshake.next_event() is None
        if opens:
            handshake.opened(OFFER)
        else:
            handshake.refused(OptionReply.ERR_POLICY, "no")
        assert isinstance(handshake.next_event(), Send)
    assert handshake.next_event() is None


@pytest.mark.parametrize(
    ("ask", "ends"), [(go(), True), (wire.option(wire.EXPORT_NAME), True), (LIST, False)]
)
def test_handshake_tells_that_it_is_over_before_its_last_reply_is_sent(ask: bytes, ends: bool) -> None:
    handshake = new()
    handshake.receive(wire.flags() + ask)
    if handshake.next_event() == OpenExport("disk"):
        assert not handshake.is_over
        handshake.opened(OFFER)
    assert handshake.is_over == ends


def test_agreement_holds_no_context_that_the_export_lacks() -> None:
    handshake = new()
    data = wire.flags() + STRUCTURED + set_contexts(b"base:allocation", b"vhdx:depth") + go()
    hear(handshake, data)
    offer = ExportOffer(1 << 20, FLAGS, 1, 4096, 1 << 25, "", ("base:allocation",))
    handshake.opened(offer)
    last = events_left(handshake)[-1]
    assert isinstance(last, Transmit)
    assert last.agreement.contexts == ((1, "base:allocation"),)


# TLS


@pytest.mark.parametrize(
    "message",
    [LIST, STRUCTURED, EXTENDED, go(), set_contexts(b"vhdx:depth"), list_contexts(), wire.option(99, b"x")],
)
def test_options_are_refused_until_tls_runs(message: bytes) -> None:
    assert kinds(message, handshake=new(tls=True)) == [wire.TLS_REQD]


@pytest.mark.parametrize("length", [70_000, 1 << 20])
def test_too_big_options_are_refused_too_until_tls_runs(length: int) -> None:
    assert kinds(wire.option(wire.GO, bytes(length)), handshake=new(tls=True)) == [wire.TLS_REQD]


def test_export_name_without_tls_ends_the_connection() -> None:
    events = events_of(wire.option(wire.EXPORT_NAME, b"disk"), handshake=new(tls=True))
    assert [type(event) for event in events] == [Close]


def test_abort_needs_no_tls() -> None:
    events = events_of(wire.option(wire.ABORT), handshake=new(tls=True))
    assert [type(event) for event in events] == [Send, Close]


def test_client_that_is_not_fixed_newstyle_cannot_start_tls() -> None:
    events = hear(new(tls=True), wire.flags(fixed=False) + STARTTLS)
    assert [type(event) for event in events] == [Close]


def test_everything_works_once_tls_runs() -> None:
    handshake = new(tls=True)
    events = events_of(STARTTLS, STRUCTURED, set_contexts(b"vhdx:depth"), go(), handshake=handshake)
    assert events[:2] == [Send(wire.reply(wire.STARTTLS, wire.ACK)), StartTls()]
    assert events[-1] == Transmit(Agreement("disk", True, False, ((2, "vhdx:depth"),)))


def test_export_name_works_once_tls_runs() -> None:
    events = events_of(STARTTLS, wire.option(wire.EXPORT_NAME), handshake=new(tls=True))
    assert events[-1] == Transmit(PLAIN_AGREEMENT)


def test_nothing_asked_for_before_tls_holds_after_it() -> None:
    before = (STRUCTURED, EXTENDED, set_contexts(b"vhdx:depth"))
    events = events_of(*before, STARTTLS, go(), handshake=new(tls=True))
    assert events[-1] == Transmit(PLAIN_AGREEMENT)


def test_second_starttls_is_invalid() -> None:
    assert kinds(STARTTLS, STARTTLS, LIST, handshake=new(tls=True)) == [wire.ACK, wire.INVALID, *IN_STEP]


def test_starttls_with_a_payload_is_invalid() -> None:
    assert kinds(wire.option(wire.STARTTLS, b"x"), handshake=new(tls=True)) == [wire.INVALID]


def test_starttls_is_against_the_policy_of_a_server_without_tls() -> None:
    assert kinds(STARTTLS, LIST) == [wire.POLICY, *IN_STEP]


@pytest.mark.parametrize("injected", [go(), LIST, b"x", STARTTLS])
def test_plaintext_behind_starttls_ends_the_connection(injected: bytes) -> None:
    together = events_of(STARTTLS + injected, handshake=new(tls=True))
    assert [type(event) for event in together] == [Close]
    handshake = new(tls=True)
    apart = hear(handshake, wire.flags() + STARTTLS) + hear(handshake, injected)
    assert [type(event) for event in apart] == [Send, StartTls, Close]


# Any split, any bytes

CONVERSATIONS = [
    wire.flags() + LIST + go(b"other") + go(b"disk", [1, 2, 3]) + b"early",
    wire.flags() + STRUCTURED + list_contexts() + set_contexts(b"base:allocation") + EXTENDED + go(),
    wire.flags() + wire.option(99, b"abc") + wire.option(wire.GO, b"junk") + wire.option(wire.ABORT, b"xy"),
    wire.flags() + wire.option(wire.LIST, bytes(65540)) + LIST + wire.option(wire.EXPORT_NAME, b"disk"),
    wire.flags() + LIST + bytes(16),
    wire.flags() + wire.option(wire.INFO, wire.info_payload(b"disk")) * 3 + LIST,
    b"\xff" * 20,
]


def run(data: bytes, cuts: Iterable[int]) -> tuple[list[Event], bytes]:
    """Play a server that gets `data` in pieces; what follows the end is left to transmission."""
    handshake = new()
    events: list[Event] = []
    edges = [0, *sorted(cuts), len(data)]
    for start, end in pairwise(edges):
        events += answer(handshake, data[start:end])
        if events and isinstance(events[-1], Transmit | Close):
            return events, handshake.unread + data[end:]
    return events, handshake.unread


@pytest.mark.parametrize("data", CONVERSATIONS)
def test_conversation_is_the_same_byte_by_byte(data: bytes) -> None:
    assert run(data, range(1, len(data))) == run(data, [])


@given(st.sampled_from(CONVERSATIONS), st.data())
def test_conversation_is_the_same_however_it_is_split(data: bytes, draw: st.DataObject) -> None:
    cuts = draw.draw(st.lists(st.integers(0, len(data)), max_size=8))
    assert run(data, cuts) == run(data, [])


PIECES = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([LIST, STRUCTURED, EXTENDED, STARTTLS, go(), list_contexts(b"base:")]),
    st.builds(
        wire.option, st.integers(0, 13), st.binary(max_size=60), st.none() | st.integers(0, 0xFFFFFFFF)
    ),
    st.builds(set_contexts, st.binary(max_size=16), name=st.binary(max_size=8)),
    st.builds(go, st.sampled_from([b"", b"disk", b"\xff"]), st.lists(st.integers(0, 5), max_size=4)),
)


@given(st.booleans(), st.lists(PIECES, max_size=12), st.integers(1, 64))
@example(True, [STARTTLS, go()], 1)
def test_no_client_can_do_more_than_end_its_connection(tls: bool, pieces: list[bytes], step: int) -> None:
    handshake = new(tls=tls)
    data = wire.flags() + b"".join(pieces)
    encrypted = False
    for start in range(0, len(data), step):
        for event in answer(handshake, data[start : start + step]):
            encrypted |= isinstance(event, StartTls)
            assert encrypted or not (tls and isinstance(event, OpenExport | Transmit))
            if isinstance(event, Transmit | Close):
                return
        assert len(handshake.unread) < 65536 + 16
