"""What client and server have agreed on before transmission: reply headers and metadata contexts.

Pure. Each method that answers an option returns the whole reply.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vhdx.nbd.protocol.constants import CONTEXTS, InfoType, Option, OptionReply, TransmissionFlag
from vhdx.nbd.protocol.events import Agreement
from vhdx.nbd.protocol.messages import (
    block_size_info,
    context_reply,
    description_info,
    error_reply,
    export_info,
    name_info,
    option_reply,
)

if TYPE_CHECKING:
    from collections.abc import Collection

    from vhdx.nbd.protocol.events import ExportOffer


class Negotiation:
    """The agreements of one connection so far."""

    def __init__(self) -> None:
        self.structured = False
        self.extended = False
        """Implies `structured`."""
        self._selected: tuple[str, tuple[tuple[int, str], ...]] = ("", ())
        """The export that contexts were selected for, and the contexts, (id, name)."""

    def agree_on_structured_replies(self) -> bytes:
        """Answer STRUCTURED_REPLY."""
        option = Option.STRUCTURED_REPLY
        if self.extended:
            return error_reply(
                option, OptionReply.ERR_EXT_HEADER_REQD, "extended headers are already agreed on"
            )
        self.structured = True
        return option_reply(option, OptionReply.ACK)

    def agree_on_extended_headers(self) -> bytes:
        """Answer EXTENDED_HEADERS."""
        self.structured = self.extended = True
        return option_reply(Option.EXTENDED_HEADERS, OptionReply.ACK)

    def list_contexts(self, queries: Collection[str]) -> bytes:
        """Answer LIST_META_CONTEXT. Every export has all contexts; a query such as "base:" asks for a namespace."""
        option = Option.LIST_META_CONTEXT
        found = [
            name
            for name in CONTEXTS
            if not queries or name in queries or name[: name.index(":") + 1] in queries
        ]
        replies = [context_reply(option, 0, name) for name in found]
        return b"".join(replies) + option_reply(option, OptionReply.ACK)

    def forget_contexts(self) -> None:
        """Deselect all contexts, as SET_META_CONTEXT does even if it fails."""
        self._selected = ("", ())

    def select_contexts(self, name: str, queries: Collection[str]) -> bytes:
        """Answer SET_META_CONTEXT for an export."""
        option = Option.SET_META_CONTEXT
        if not self.structured:
            return error_reply(option, OptionReply.ERR_INVALID, "agree on structured replies first")
        chosen = tuple(entry for entry in enumerate(CONTEXTS, 1) if entry[1] in queries)
        self._selected = (name, chosen)
        replies = [context_reply(option, *entry) for entry in chosen]
        return b"".join(replies) + option_reply(option, OptionReply.ACK)

    def agreement(self, name: str, offer: ExportOffer) -> Agreement:
        """Return what holds for transmission with an export."""
        selected_for, contexts = self._selected
        held = tuple(entry for entry in contexts if selected_for == name and entry[1] in offer.contexts)
        return Agreement(name, self.structured, self.extended, held)

    def flags(self, name: str, offer: ExportOffer) -> TransmissionFlag:
        """Return an export's transmission flags for this client."""
        flags = offer.flags & ~TransmissionFlag.SEND_DF
        if self.structured:
            flags |= TransmissionFlag.SEND_DF
        if not (self.extended and self.agreement(name, offer).contexts):
            flags &= ~TransmissionFlag.BLOCK_STATUS_PAYLOAD
        return flags

    def information(self, option: Option, name: str, wanted: Collection[int], offer: ExportOffer) -> bytes:
        """Answer INFO or GO. The size constraints are sent unasked: clients ignore information they do not know."""
        replies = [export_info(option, offer.size, self.flags(name, offer))]
        if InfoType.NAME in wanted:
            replies.append(name_info(option, name))
        if InfoType.DESCRIPTION in wanted:
            replies.append(description_info(option, offer.description))
        sizes = (offer.minimum_block_bytes, offer.preferred_block_bytes, offer.maximum_payload_bytes)
        replies.append(block_size_info(option, *sizes))
        return b"".join(replies) + option_reply(option, OptionReply.ACK)
