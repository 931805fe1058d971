"""The server's side of the fixed newstyle handshake: bytes in, events out.

Pure: no socket, no clock, no thread. Source: doc/proto.md, "Newstyle negotiation" to "Transmission", "TLS support"
and "Option types".

The caller sends `greeting()`, hands every byte of the client to `receive` in whatever pieces they come, and then
acts on each `next_event()` until there is none:

    Send         send these bytes before anything else is done
    StartTls     do the TLS handshake on the connection, then call `tls_started`
    OpenExport   open the export, then call `opened` or `refused`
    Transmit     the handshake is over; what the client has sent beyond it is in `unread`
    Close        the handshake is over, and so is the connection

An option is looked at only when its event is asked for, so that replies to a client that does not take them cannot
pile up.

A client's mistake has one of two ends. A wrong payload costs it an error reply, and the stream goes on in step,
because the header said how long the payload was. The connection is closed where the stream is out of step (magic),
where the protocol has no way to report an error (flags, EXPORT_NAME), and where the client asks for more than any
sound client would.

TLS is either required or absent. Where it is required, every option but STARTTLS and ABORT is refused before it
runs, so there is nothing agreed on in the clear that STARTTLS would have to undo. Bytes that arrive behind STARTTLS
before TLS runs end the connection: somebody on the way may have put them there, to be obeyed as if they had come
encrypted.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

from vhdx._units import MIB
from vhdx.nbd.protocol.constants import (
    GREETING,
    OPTION_MAGIC,
    SERVER_MAGIC,
    ClientFlag,
    HandshakeFlag,
    Option,
    OptionReply,
)
from vhdx.nbd.protocol.events import Close, Event, ExportOffer, OpenExport, Send, StartTls, Transmit
from vhdx.nbd.protocol.messages import (
    MessageError,
    check_empty,
    decode_string,
    error_reply,
    export_name_reply,
    option_reply,
    parse_context_request,
    parse_info_request,
    server_reply,
)
from vhdx.nbd.protocol.negotiation import Negotiation
from vhdx.nbd.protocol.option_stream import MAX_PAYLOAD_BYTES, BreachError, OptionStream

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vhdx._buffer import Buffer

MAX_EARLY_BYTES: Final = MIB
"""Most that is kept of what a client sends while its export is being opened."""

_KNOWN: Final = frozenset(Option) - {Option.PEEK_EXPORT}


class _Phase(Enum):
    FLAGS = "the client's flags are awaited"
    OPTIONS = "options are awaited"
    TLS = "TLS is being started"
    OVER = "the handshake is over"


class _Wish(NamedTuple):
    """The option for which an export is being opened, and what it wants to know."""

    option: Option
    name: str
    wanted: frozenset[int]


class Handshake:
    """The handshake of one connection. See the module's description."""

    def __init__(self, exports: Mapping[str, str], *, tls: bool, default_export: str | None) -> None:
        """Begin. `exports`: descriptions by name; `default_export`: what an empty name means; `tls`: required."""
        self._exports = exports
        self._default_export = default_export
        self._tls = tls
        self._encrypted = False
        self._stream = OptionStream()
        self._negotiation = Negotiation()
        self._phase = _Phase.FLAGS
        self._client_flags = ClientFlag(0)
        self._wish: _Wish | None = None
        self._events: deque[Event] = deque()
        """What the newest option, or the export that was opened for it, asks the caller to do."""

    @property
    def is_over(self) -> bool:
        """Whether nothing but the last events is left to be acted on."""
        return self._phase is _Phase.OVER

    @property
    def unread(self) -> bytes:
        """What the client sent behind the last option of the handshake."""
        return self._stream.rest

    def greeting(self) -> bytes:
        """Return what the server sends first."""
        flags = HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES
        return GREETING.pack(SERVER_MAGIC, OPTION_MAGIC, flags)

    def receive(self, data: Buffer) -> None:
        """Take bytes of the client."""
        if self._phase is _Phase.OVER:
            raise RuntimeError(self._phase.value)
        self._stream.feed(data)

    def next_event(self) -> Event | None:
        """Return what has to be done next; None until the client has sent more, or the caller has done its part."""
        if not self._events and self._phase is not _Phase.OVER:
            try:
                self._advance()
            except BreachError as breach:
                self._phase = _Phase.OVER
                self._events.append(Close(str(breach)))
        return self._events.popleft() if self._events else None

    def tls_started(self) -> None:
        """Go on over TLS: from here, what is received has come encrypted."""
        if self._phase is not _Phase.TLS:
            raise RuntimeError(self._phase.value)
        self._phase = _Phase.OPTIONS
        self._encrypted = True

    def opened(self, offer: ExportOffer) -> None:
        """Take note of what the export that the client asked for can do; the events tell the client."""
        wish = self._granted()
        if wish.option is Option.EXPORT_NAME:
            padded = ClientFlag.NO_ZEROES not in self._client_flags
            self._send(
                export_name_reply(offer.size, self._negotiation.flags(wish.name, offer), padded=padded)
            )
        else:
            self._send(self._negotiation.information(*wish, offer))
        if wish.option is not Option.INFO:
            self._phase = _Phase.OVER
            self._events.append(Transmit(self._negotiation.agreement(wish.name, offer)))

    def refused(self, error: OptionReply, message: str) -> None:
        """Take note that the export that the client asked for could not be opened; the events tell the client."""
        wish = self._granted()
        if wish.option is Option.EXPORT_NAME:
            self._phase = _Phase.OVER
            self._events.append(Close(f"EXPORT_NAME: {message}"))
        else:
            self._refuse(wish.option, error, message)

    def _granted(self) -> _Wish:
        if self._wish is None or self._phase is _Phase.OVER:
            raise RuntimeError("no export is being opened")
        wish, self._wish = self._wish, None
        return wish

    # The stream

    def _advance(self) -> None:
        """Answer the next option if it has come as a whole. Raises: BreachError."""
        self._check_silence()
        if self._phase is _Phase.FLAGS and (flags := self._stream.flags()) is not None:
            self._client_flags = flags
            self._phase = _Phase.OPTIONS
        if self._phase is _Phase.OPTIONS and self._wish is None:
            message = self._stream.option()
            if message is not None:
                self._answer(*message)

    def _check_silence(self) -> None:
        """Hold the client to what it may send while it has to wait. Raises: BreachError."""
        if self._phase is _Phase.TLS and len(self._stream):
            raise BreachError("bytes that are not encrypted follow STARTTLS")
        if self._wish is not None and len(self._stream) > MAX_EARLY_BYTES:
            raise BreachError(f"more than {MAX_EARLY_BYTES} bytes sent while an export was being opened")

    # The options

    def _answer(self, option: int, payload: bytes | None) -> None:
        """Answer an option with at least one event. Raises: BreachError."""
        if option == Option.ABORT:
            self._phase = _Phase.OVER
            self._send(option_reply(option, OptionReply.ACK))
            self._events.append(Close("the client ended the handshake"))
        elif option == Option.EXPORT_NAME:
            self._choose(payload)
        elif ClientFlag.FIXED_NEWSTYLE not in self._client_flags:
            raise BreachError(f"option {option} from a client that does not speak fixed newstyle")
        elif self._tls and not self._encrypted and option != Option.STARTTLS:
            self._refuse(option, OptionReply.ERR_TLS_REQD, "start TLS first")
        elif option not in _KNOWN:
            self._refuse(option, OptionReply.ERR_UNSUP, f"option {option} is not known here")
        else:
            self._try(Option(option), payload)

    def _try(self, option: Option, payload: bytes | None) -> None:
        """Do what an option asks for, or answer why not. Raises: BreachError."""
        if option is Option.SET_META_CONTEXT:
            self._negotiation.forget_contexts()
        if payload is None:
            most = f"more than the {MAX_PAYLOAD_BYTES} bytes of payload that an option may have here"
            self._refuse(option, OptionReply.ERR_TOO_BIG, most)
            return
        try:
            self._perform(option, payload)
        except MessageError as error:
            self._refuse(option, OptionReply.ERR_INVALID, str(error))

    def _perform(self, option: Option, payload: bytes) -> None:
        """Do what an option asks for. Raises: MessageError, BreachError."""
        if option in (Option.INFO, Option.GO):
            name, wanted = parse_info_request(payload)
            self._open(option, name, wanted)
            return
        if option in (Option.LIST_META_CONTEXT, Option.SET_META_CONTEXT):
            name, queries = parse_context_request(payload)
            self._contexts(option, name, queries)
            return
        check_empty(payload)
        match option:
            case Option.LIST:
                exports = [server_reply(option, *export) for export in self._exports.items()]
                self._send(b"".join(exports) + option_reply(option, OptionReply.ACK))
            case Option.STRUCTURED_REPLY:
                self._send(self._negotiation.agree_on_structured_replies())
            case Option.EXTENDED_HEADERS:
                self._send(self._negotiation.agree_on_extended_headers())
            case Option.STARTTLS:
                self._start_tls(option)

    def _start_tls(self, option: Option) -> None:
        if not self._tls:
            self._refuse(option, OptionReply.ERR_POLICY, "this server does not use TLS")
        elif self._encrypted:
            self._refuse(option, OptionReply.ERR_INVALID, "TLS is already in use")
        else:
            self._phase = _Phase.TLS
            self._check_silence()
            self._send(option_reply(option, OptionReply.ACK))
            self._events.append(StartTls())

    def _choose(self, payload: bytes | None) -> None:
        """Do what EXPORT_NAME asks for, to which there is no error reply. Raises: BreachError."""
        if self._tls and not self._encrypted:
            raise BreachError("EXPORT_NAME without TLS")
        if self._negotiation.extended:
            raise BreachError("EXPORT_NAME after EXTENDED_HEADERS")
        if payload is None:
            raise BreachError("EXPORT_NAME with a name that is too long")
        try:
            name = decode_string(payload, "the export's name")
        except MessageError as error:
            raise BreachError(f"EXPORT_NAME: {error}") from None
        if self._find(name) is None:
            raise BreachError(f"EXPORT_NAME: {_no_export(name)}")
        self._open(Option.EXPORT_NAME, name, frozenset())

    def _open(self, option: Option, name: str, wanted: frozenset[int]) -> None:
        found = self._find(name)
        if found is None:
            self._refuse(option, OptionReply.ERR_UNKNOWN, _no_export(name))
            return
        self._wish = _Wish(option, found, wanted)
        self._events.append(OpenExport(found))

    def _contexts(self, option: Option, name: str, queries: tuple[str, ...]) -> None:
        found = self._find(name)
        if found is None:
            self._refuse(option, OptionReply.ERR_UNKNOWN, _no_export(name))
        elif option is Option.LIST_META_CONTEXT:
            self._send(self._negotiation.list_contexts(queries))
        else:
            self._send(self._negotiation.select_contexts(found, queries))

    def _find(self, name: str) -> str | None:
        if name in self._exports:
            return name
        return None if name else self._default_export

    # The replies

    def _send(self, reply: bytes) -> None:
        self._events.append(Send(reply))

    def _refuse(self, option: int, error: OptionReply, message: str) -> None:
        self._send(error_reply(option, error, message))


def _no_export(name: str) -> str:
    return f"there is no export {name[:64]!r}" if name else "there is no default export; give a name"
