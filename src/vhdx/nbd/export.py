"""What a server offers: names, and the devices behind them, opened when a client asks for them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from vhdx.blockdev.device import Ability
from vhdx.nbd.protocol.constants import BASE_ALLOCATION, CONTEXTS, StateFlag, TransmissionFlag
from vhdx.nbd.protocol.events import ExportOffer
from vhdx.nbd.protocol.transmission import MAX_PAYLOAD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vhdx.blockdev.device import DirectDevice
    from vhdx.blockdev.extent import Extent

MAX_DESCRIPTORS: Final = 1 << 14
"""Most pieces in one answer to BLOCK_STATUS; the client asks again for the rest."""


class Export:
    """A name and its device, which is open while clients use it and is shared by all of them. Thread-safe."""

    def __init__(
        self,
        name: str,
        open_device: Callable[[], DirectDevice],
        *,
        description: str = "",
        keeps_open: bool = False,
    ) -> None:
        """`keeps_open`: the device stays open until `close`, also without clients: its content is in no file."""
        self.name = name
        self.description = description
        self._open_device = open_device
        self._keeps_open = keeps_open
        self._lock = threading.Lock()
        self._device: DirectDevice | None = None
        self._users = 0

    def acquire(self) -> DirectDevice:
        """Use the device; it is opened for the first user. Raises: what opening raises."""
        with self._lock:
            if self._device is None:
                self._device = self._open_device()
            self._users += 1
            return self._device

    def release(self) -> None:
        """Use the device no more; the last user closes it, which makes all of it durable. Raises: as closing does."""
        with self._lock:
            self._users -= 1
            if not self._users and not self._keeps_open:
                self._close()

    def close(self) -> None:
        """Close the device if it is still open. No client may use it any more. Raises: as closing does."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        device, self._device = self._device, None
        if device is not None:
            device.close()


def offer(device: DirectDevice, description: str) -> ExportOffer:
    """Say in the protocol's terms what an open device can do."""
    limits = device.limits
    flags = TransmissionFlag.HAS_FLAGS | TransmissionFlag.CAN_MULTI_CONN | TransmissionFlag.SEND_CACHE
    if limits.writable:
        flags |= TransmissionFlag.SEND_FLUSH | TransmissionFlag.SEND_FUA
    else:
        flags |= TransmissionFlag.READ_ONLY
    if limits.trim is not Ability.NONE:
        flags |= TransmissionFlag.SEND_TRIM
    if limits.write_zeroes is not Ability.NONE:
        flags |= TransmissionFlag.SEND_WRITE_ZEROES
    if limits.fast_zero is not Ability.NONE:
        flags |= TransmissionFlag.SEND_FAST_ZERO
    is_aligned = device.size % limits.minimum_io_size == 0
    return ExportOffer(
        size=device.size,
        flags=flags,
        minimum_block_bytes=limits.minimum_io_size if is_aligned else 1,
        preferred_block_bytes=max(limits.preferred_io_size, 4096),
        maximum_payload_bytes=MAX_PAYLOAD,
        description=description,
        contexts=CONTEXTS,
    )


def describe(
    device: DirectDevice, context: str, offset: int, length: int, limit: int
) -> Iterator[tuple[int, int]]:
    """Describe a range for a metadata context: at most `limit` pieces (length, status) from `offset` on.

    Raises: VhdxError, OSError.
    """
    status_of = _allocation if context == BASE_ALLOCATION else _depth
    pending, status = 0, 0
    for extent in device.extents(offset, length):
        found = status_of(extent)
        if pending and found != status:
            yield pending, status
            limit -= 1
            pending = 0
            if not limit:
                return
        pending += extent.length
        status = found
    if pending:
        yield pending, status


def _allocation(extent: Extent) -> int:
    return (StateFlag.HOLE if extent.hole else 0) | (StateFlag.ZERO if extent.zero else 0)


def _depth(extent: Extent) -> int:
    return extent.depth
