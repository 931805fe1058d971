"""What the handshake of a connection asks its caller to do, and what the two tell each other about the export."""

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
    """What the export can do, whatever the client has negotiated. `Negotiation` adds SEND_DF, and takes
    BLOCK_STATUS_PAYLOAD away from a client that cannot use it.
    """
    minimum_block_bytes: int
    preferred_block_bytes: int
    maximum_payload_bytes: int
    description: str
    contexts: tuple[str, ...]
    """Names of the metadata contexts that the export has."""


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
