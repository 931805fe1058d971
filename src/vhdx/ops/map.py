"""What a disk holds where, from metadata alone: also of a chain of which some files are missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from vhdx.disks.chain import MAX_DEPTH, Disk
from vhdx.disks.parents import OpenOptions, ParentFinder, ParentPolicy
from vhdx.errors import ChainCycleError, ChainError, ParentForbiddenError, ParentNotFoundError

if TYPE_CHECKING:
    from collections.abc import Generator

    from vhdx.blockdev.extent import Extent
    from vhdx.disks.image import Image, Source


def map(
    source: Source, *, parents: ParentPolicy = "same-dir", strict: bool = False, lock: bool = True
) -> Generator[Extent, None, None]:
    """Walk over a VHDX and its parents, extent by extent, in constant memory; the content is not read.

    The arguments are those of `vhdx.open`. What lies in a parent that cannot be found is `unreadable`. The files
    are open until the iterator ends or is closed.

    Raises, with the first extent: FormatError and its kin, ParentMismatchError, ChainCycleError,
    ImageLockedError, OSError.
    """
    with open_reachable(source, parents=parents, strict=strict, lock=lock).disk as disk:
        yield from disk.extents()


class ReachableDisk(NamedTuple):
    """A disk with the parents that were found, and the error that the first missing one makes."""

    disk: Disk
    missing: ChainError | None


def open_reachable(
    source: Source, *, parents: ParentPolicy = "same-dir", strict: bool = False, lock: bool = True
) -> ReachableDisk:
    """Open a VHDX and those of its parents that can be found; what lies in the others cannot be read.

    The arguments are those of `vhdx.open`. The disk's extents tell what is not present.

    Raises: FormatError and its kin, ParentMismatchError, ChainCycleError, ImageLockedError, OSError.
    """
    options = OpenOptions("auto", strict, lock)
    finder = ParentFinder(parents, options)
    images = [options.open(source)]
    missing: ChainError | None = None
    try:
        while finder.enabled and images[-1].parameters.has_parent and missing is None:
            try:
                images.append(finder.find(images[-1], len(images) - 1))
            except (ParentNotFoundError, ParentForbiddenError) as error:
                missing = error
            else:
                _check_newest(images)
    except BaseException:
        for image in images:
            image.close()
        raise
    return ReachableDisk(Disk(tuple(images)), missing)


def _check_newest(images: list[Image]) -> None:
    *others, newest = images
    if len(others) >= MAX_DEPTH:
        raise ChainCycleError(f"{images[0].name}: the chain has more than {MAX_DEPTH} files")
    if newest.identity is not None and newest.identity in [image.identity for image in others]:
        raise ChainCycleError(f"{newest.name}: the file is its own ancestor")
