"""What a disk is read from: a device that is open already, or a file that is opened for the time being."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from vhdx.blockdev.device import BlockDevice

DiskSource = BlockDevice | str | os.PathLike[str]


@contextmanager
def use_disk(source: DiskSource) -> Iterator[BlockDevice]:
    """Use a disk while the context lasts. A device is the caller's, and stays open.

    A path is opened in the format that its content shows, with the parents that lie beside it.
    Raises: RequestError for a file of no known format; VhdxError, OSError; TypeError for anything else.
    """
    if isinstance(source, str | os.PathLike):
        from vhdx.disks.formats import open_for_reading

        with open_for_reading(source) as disk:
            yield disk
    elif hasattr(source, "limits"):
        yield source
    else:
        raise TypeError(f"a disk is a path, or what vhdx.open and RawDevice.open return, not {source!r}")
