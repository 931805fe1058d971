"""Opening the disk that a command reads or writes, in the format that is asked for or that its content shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vhdx.cli.options import UsageError
from vhdx.cli.output import complain, warn_unreliable
from vhdx.disks.formats import FORMATS, RAW, Format, format_of_content
from vhdx.rules import Severity
from vhdx.storage.base import lock_warning_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vhdx.disks.layered_device import LayeredDevice
    from vhdx.disks.options import OpenOptions
    from vhdx.findings import Finding
    from vhdx.storage.base import ByteStore


def open_source(path: str, file_format: str | None, options: OpenOptions) -> LayeredDevice:
    """Open a disk in the format of this name, or else in the one that its content shows.

    Raises: UsageError for a file of no known format; VhdxError, OSError.
    """
    if not options.lock:
        warn_unreliable(path)
    store, _ = options.open_store(path)
    try:
        warn_unlocked(store)
        opens_as = _recognised(store, options) if file_format is None else FORMATS[file_format]
    except BaseException:
        store.close()
        raise
    disk = opens_as.open(store, options)
    for layer in disk.layers:
        warn_of_findings(layer.name, layer.findings)
    return disk


def warn_unlocked(store: ByteStore) -> None:
    """Tell on stderr why a file is not locked, if it should be."""
    warning = lock_warning_of(store)
    if warning:
        complain(f"warning: {warning}")


def warn_of_findings(name: str, findings: Iterable[Finding]) -> None:
    """Tell on stderr what was tolerated and is worse than a notice."""
    for finding in findings:
        if finding.severity in (Severity.ERROR, Severity.WARNING):
            complain(f"warning: {name}: {finding}")


def _recognised(store: ByteStore, options: OpenOptions) -> Format:
    """The format that the content shows, or raw where nothing but the name says so.

    Raises: UsageError for a file of no known format, and for a raw disk that is to be written to.
    """
    found, looks = format_of_content(store)
    if found is None:
        doubt = " all the same" if looks.name is not None else ""
        raise UsageError(
            f"{store.name}: not a VHDX but {looks}; if it is a raw disk{doubt}, say so with -f raw"
        )
    if found is RAW and options.writable:
        # Whoever writes decides what the content looks like, and so what would be opened next time.
        raise UsageError(
            f"{store.name}: a raw disk is written to only with -f raw, which never guesses: its content could be"
            " made to look like a VHDX"
        )
    return found
