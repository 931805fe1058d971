"""What the handshake of a connection asks its caller to do, and what both tell each other of the export."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from vhdx.nbd.protocol.constants import TransmissionFlag


@dataclass(frozen=True, slots=True)
class ExportOffer:
    """What an opened export tells a client."""

    size: int
    """Bytes."""
    flags: TransmissionFlag
    """What it can do, whatever was negotiated; SEND_DF is added and BLOCK_STATUS_PAYLOAD removed here."""
    minimum_block_bytes: int
    preferred_block_bytes: int
    maximum_payload_bytes: int
    description: str
    contexts: tuple[str, ...]
    """Metadata contexts it has; all that were negotiated, if it keeps to the list every export has."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """What transmission needs to know of the handshake."""

    export_name: str
    structured: bool
    """Replies are structured, or extended."""
    extended: bool
    contexts: tuple[tuple[int, str], ...]
    """Id (> 0) and name of each metadata context the client selected for this export."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send these bytes."""

    data: bytes


@dataclass(frozen=True, slots=True)
class StartTls:
    """Do the TLS handshake, then call `Handshake.tls_started`."""


@dataclass(frozen=True, slots=True)
class OpenExport:
    """Open this export, then call `Handshake.opened` or `Handshake.refused`."""

    name: str


@dataclass(frozen=True, slots=True)
class Transmit:
    """The handshake has succeeded."""

    agreement: Agreement


@dataclass(frozen=True, slots=True)
class Close:
    """The connection is over."""

    reason: str


Event: TypeAlias = Send | StartTls | OpenExport | Transmit | Close
