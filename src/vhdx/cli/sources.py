"""Opening what a command reads: a VHDX chain, or a raw disk where that is what is meant."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from vhdx.cli.options import UsageError, parent_policy
from vhdx.cli.output import complain, warn_unreliable
from vhdx.disks.chain import open_disk
from vhdx.disks.raw import RawDevice
from vhdx.format.recognise import PROBE_SIZE, recognise
from vhdx.rules import Severity
from vhdx.storage.base import both_ends, pread
from vhdx.storage.file import FileStore

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable

    from vhdx.disks.chain import Disk
    from vhdx.findings import Finding

RAW_SUFFIXES: Final = (".raw", ".img", ".dd")


def open_source(
    path: str,
    options: argparse.Namespace,
    file_format: str | None,
    open_chain: Callable[..., Disk] = open_disk,
    *,
    writable: bool = False,
) -> Disk | RawDevice:
    """Open a disk in the format that is asked for, or else in the one that its content shows.

    `open_chain` is called like `open_disk`. `writable` needs the options of `add_writing`, too.
    Raises: UsageError for a file of no known format, or if what others write is not to be minded by a writer;
    VhdxError, OSError.
    """
    lock = not options.force_share
    if options.force_share:
        if writable:
            raise UsageError("--force-share is for reading: two writers would destroy the image")
        warn_unreliable(path)
    store = FileStore.open(path, writable=writable, lock=lock, no_lock_ok=writable and options.no_lock)
    try:
        if store.lock_warning:
            complain(f"warning: {store.lock_warning}")
        is_vhdx = file_format == "vhdx" or (
            file_format is None and recognise(pread(store, PROBE_SIZE, 0)).name == "vhdx"
        )
        if not is_vhdx:
            if file_format is None:
                _refuse_unless_raw(store)
                if writable:
                    # Whoever writes decides what the content looks like, and so what would be opened next time.
                    raise UsageError(
                        f"{path}: a raw disk is written to only with -f raw, which never guesses: its content could"
                        " be made to look like a VHDX"
                    )
            return RawDevice(store, writable=writable)
        settings = {"parents": parent_policy(options), "strict": options.strict, "lock": lock}
        if writable:
            settings |= {"mode": "r+", "ignore_change_tracking": options.ignore_change_tracking}
        disk = open_chain(store, **settings)
        disk.images[0].adopt_store()
    except BaseException:
        store.close()
        raise
    for image in disk.images:
        warn_of_findings(image.name, image.findings)
    return disk


def warn_of_findings(name: str, findings: Iterable[Finding]) -> None:
    """Tell on stderr what was tolerated and is worse than a notice."""
    for finding in findings:
        if finding.severity in (Severity.ERROR, Severity.WARNING):
            complain(f"warning: {name}: {finding}")


def _refuse_unless_raw(store: FileStore) -> None:
    """Raises: UsageError if nothing says that a file which is no VHDX is a raw disk."""
    looks = recognise(*both_ends(store, PROBE_SIZE))
    is_named_raw = store.is_block_device or PurePath(store.name).suffix.lower() in RAW_SUFFIXES
    if is_named_raw and looks.name is None:
        return
    doubt = " all the same" if looks.name is not None else ""
    raise UsageError(f"{store.name}: not a VHDX but {looks}; if it is a raw disk{doubt}, say so with -f raw")
