"""The server's side of the fixed newstyle handshake: bytes in, events out.

Pure: no socket, no clock, no thread. Source: doc/proto.md, "Newstyle negotiation" to "Transmission", "TLS support"
and "Option types".

The caller sends `greeting()`, hands every byte of the client to `receive` in whatever pieces they come, and acts
on the events in their order:

    Send         these bytes, before anything else is done
    StartTls     do the TLS handshake on the connection, then call `tls_started`
    OpenExport   open it, then call `opened` or `refused`, and act on their events in turn, at once or later
    Transmit     the handshake is over; what the client sent early is in `unread`
    Close        the handshake is over, and so is the connection

Events are made as they are asked for, so that a client that does not read its replies cannot make them pile up:
run every iterator to its end.

What the client gets wrong has one of two ends. A payload that is wrong costs it an error reply, and the stream
goes on in step, for the header said how long the payload was. Where the stream is out of step (magic), where the
protocol has no way to report an error (flags, EXPORT_NAME) or where the client does not mean well, it is closed.

TLS is either required or absent. Required: before it runs, every option but STARTTLS and ABORT is refused, so there
is nothing that STARTTLS would have to forget; and bytes that arrive behind STARTTLS before TLS runs, which
somebody on the way may have put there for us to obey as if they had come encrypted, end the connection.
"""

from __future__ import annotations

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
    from collections.abc import Iterator, Mapping

    from vhdx._buffer import Buffer

__all__ = [
    "Agreement",
    "Close",
    "Event",
    "ExportOffer",
    "Handshake",
    "OpenExport",
    "Send",
    "StartTls",
    "Transmit",
]

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
        self._advancing = False

    @property
    def unread(self) -> bytes:
        """What the client sent behind the last option of the handshake."""
        return self._stream.rest

    def greeting(self) -> bytes:
        """Return what the server sends first."""
        flags = HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES
        return GREETING.pack(SERVER_MAGIC, OPTION_MAGIC, flags)

    def receive(self, data: Buffer) -> Iterator[Event]:
        """Take bytes of the client."""
        if self._phase is _Phase.OVER:
            raise RuntimeError(self._phase.value)
        self._stream.feed(data)
        return self._advance()

    def tls_started(self) -> None:
        """Go on over TLS: from here, what is received has come encrypted."""
        if self._phase is not _Phase.TLS:
            raise RuntimeError(self._phase.value)
        self._phase = _Phase.OPTIONS
        self._encrypted = True

    def opened(self, offer: ExportOffer) -> Iterator[Event]:
        """Tell the client of the export that it asked for."""
        wish = self._granted()
        if wish.option is not Option.INFO:
            self._phase = _Phase.OVER
        return self._welcome(wish, offer)

    def refused(self, error: OptionReply, message: str) -> Iterator[Event]:
        """Tell the client that the export it asked for could not be opened."""
        wish = self._granted()
        if wish.option is Option.EXPORT_NAME:
            self._phase = _Phase.OVER
        return self._turn_away(wish, error, message)

    def _granted(self) -> _Wish:
        if self._wish is None or self._phase is _Phase.OVER:
            raise RuntimeError("no export is being opened")
        wish, self._wish = self._wish, None
        return wish

    # The stream

    def _advance(self) -> Iterator[Event]:
        """Answer the options that are there; if this very loop waits for its caller further out, it will."""
        if self._advancing:
            return
        self._advancing = True
        try:
            self._check_silence()
            if self._phase is _Phase.FLAGS and (flags := self._stream.flags()) is not None:
                self._client_flags = flags
                self._phase = _Phase.OPTIONS
            while self._phase is _Phase.OPTIONS and self._wish is None and (message := self._stream.option()):
                yield from self._answer(*message)
        except BreachError as breach:
            self._phase = _Phase.OVER
            yield Close(str(breach))
        finally:
            self._advancing = False

    def _check_silence(self) -> None:
        """Hold the client to what it may send while it has to wait."""
        if self._phase is _Phase.TLS and len(self._stream):
            raise BreachError("bytes that are not encrypted follow STARTTLS")
        if self._wish is not None and len(self._stream) > MAX_EARLY_BYTES:
            raise BreachError(f"more than {MAX_EARLY_BYTES} bytes sent while an export was being opened")

    # The options

    def _answer(self, option: int, payload: bytes | None) -> Iterator[Event]:
        if option == Option.ABORT:
            self._phase = _Phase.OVER
            yield Send(option_reply(option, OptionReply.ACK))
            yield Close("the client ended the handshake")
        elif option == Option.EXPORT_NAME:
            yield self._choose(payload)
        elif ClientFlag.FIXED_NEWSTYLE not in self._client_flags:
            raise BreachError(f"option {option} from a client that does not speak fixed newstyle")
        elif self._tls and not self._encrypted and option != Option.STARTTLS:
            yield _error(option, OptionReply.ERR_TLS_REQD, "start TLS first")
        elif option not in _KNOWN:
            yield _error(option, OptionReply.ERR_UNSUP, f"option {option} is not known here")
        else:
            yield from self._try(Option(option), payload)

    def _try(self, option: Option, payload: bytes | None) -> Iterator[Event]:
        if option is Option.SET_META_CONTEXT:
            self._negotiation.forget_contexts()
        if payload is None:
            most = f"more than the {MAX_PAYLOAD_BYTES} bytes of payload that an option may have here"
            yield _error(option, OptionReply.ERR_TOO_BIG, most)
            return
        try:
            yield from self._perform(option, payload)
        except MessageError as error:
            yield _error(option, OptionReply.ERR_INVALID, str(error))

    def _perform(self, option: Option, payload: bytes) -> Iterator[Event]:
        """Do what an option asks. Raises: MessageError."""
        if option in (Option.INFO, Option.GO):
            name, wanted = parse_info_request(payload)
            yield self._open(option, name, wanted)
            return
        if option in (Option.LIST_META_CONTEXT, Option.SET_META_CONTEXT):
            name, queries = parse_context_request(payload)
            yield self._contexts(option, name, queries)
            return
        check_empty(payload)
        match option:
            case Option.LIST:
                exports = [server_reply(option, *export) for export in self._exports.items()]
                yield Send(b"".join(exports) + option_reply(option, OptionReply.ACK))
            case Option.STRUCTURED_REPLY:
                yield Send(self._negotiation.agree_on_structured_replies())
            case Option.EXTENDED_HEADERS:
                yield Send(self._negotiation.agree_on_extended_headers())
            case Option.STARTTLS:
                yield from self._start_tls(option)

    def _start_tls(self, option: Option) -> Iterator[Event]:
        if not self._tls:
            yield _error(option, OptionReply.ERR_POLICY, "this server does not use TLS")
        elif self._encrypted:
            yield _error(option, OptionReply.ERR_INVALID, "TLS is already in use")
        else:
            self._phase = _Phase.TLS
            self._check_silence()
            yield Send(option_reply(option, OptionReply.ACK))
            yield StartTls()

    def _choose(self, payload: bytes | None) -> Event:
        """Do what EXPORT_NAME asks, to which there is no error reply. Raises: BreachError."""
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
        return self._open(Option.EXPORT_NAME, name, frozenset())

    def _open(self, option: Option, name: str, wanted: frozenset[int]) -> Event:
        found = self._find(name)
        if found is None:
            return _error(option, OptionReply.ERR_UNKNOWN, _no_export(name))
        self._wish = _Wish(option, found, wanted)
        return OpenExport(found)

    def _contexts(self, option: Option, name: str, queries: tuple[str, ...]) -> Event:
        found = self._find(name)
        if found is None:
            return _error(option, OptionReply.ERR_UNKNOWN, _no_export(name))
        if option is Option.LIST_META_CONTEXT:
            return Send(self._negotiation.list_contexts(queries))
        return Send(self._negotiation.select_contexts(found, queries))

    def _find(self, name: str) -> str | None:
        if name in self._exports:
            return name
        return None if name else self._default_export

    # The export

    def _welcome(self, wish: _Wish, offer: ExportOffer) -> Iterator[Event]:
        if wish.option is Option.EXPORT_NAME:
            padded = ClientFlag.NO_ZEROES not in self._client_flags
            flags = self._negotiation.flags(wish.name, offer)
            yield Send(export_name_reply(offer.size, flags, padded=padded))
        else:
            yield Send(self._negotiation.information(*wish, offer))
        if wish.option is Option.INFO:
            yield from self._advance()
        else:
            yield Transmit(self._negotiation.agreement(wish.name, offer))

    def _turn_away(self, wish: _Wish, error: OptionReply, message: str) -> Iterator[Event]:
        if wish.option is Option.EXPORT_NAME:
            yield Close(f"EXPORT_NAME: {message}")
        else:
            yield _error(wish.option, error, message)
            yield from self._advance()


def _error(option: int, error: OptionReply, message: str) -> Send:
    return Send(error_reply(option, error, message))


def _no_export(name: str) -> str:
    return f"there is no export {name[:64]!r}" if name else "there is no default export; give a name"
