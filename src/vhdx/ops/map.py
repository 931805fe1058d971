"""What a disk holds where, from metadata alone: also of a chain of which some files are missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vhdx.disks.chain import open_chain
from vhdx.disks.options import OpenOptions, ParentPolicy

if TYPE_CHECKING:
    from collections.abc import Generator

    from vhdx.blockdev.extent import Extent
    from vhdx.errors import ChainError
    from vhdx.storage.source import Source


def map(
    source: Source, *, parents: ParentPolicy = "same-dir", strict: bool = False, lock: bool = True
) -> Generator[Extent, None, None]:
    """Walk over a VHDX and its parents, extent by extent, in constant memory; the content is not read.

    The arguments are those of `vhdx.open`. What lies in a parent that cannot be found is `unreadable`. The files
    are open until the iterator ends or is closed.

    Raises, with the first extent: FormatError and its kin, ParentMismatchError, ChainCycleError,
    ImageLockedError, OSError.
    """
    options = OpenOptions(parents=parents, on_missing_parent=_ignore, strict=strict, lock=lock)
    with open_chain(source, options) as disk:
        yield from disk.extents()


def _ignore(missing: ChainError) -> None:
    """The extents tell what is missing."""
