"""The formats that disks can have: the one list that the command, `convert` and `measure` go by.

A further format is a row here and a module beside this one with its `Layer` (and `LayerWriter`), whose name
`format.recognise` tells. What `convert` is to make needs a target in `ops.copying.targets`, too.

The modules of the formats are imported when a disk is opened, so that asking for a name costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from vhdx.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vhdx.disks.layered_device import LayeredDevice
    from vhdx.disks.options import OpenOptions
    from vhdx.storage.base import ByteStore

FormatName = Literal["raw", "vhdx"]


class Format(NamedTuple):
    """A format, and how a disk that has it is opened."""

    name: FormatName
    """As the options of the command and `format.recognise` call it."""
    suffixes: tuple[str, ...]
    """Of the names of its files, in lower case."""
    open: Callable[[ByteStore, OpenOptions], LayeredDevice]
    """Open a disk whose first file the store is.

    The store is taken over: it is closed with the disk, or when opening fails. It has been opened for writing if
    the options say so.
    """
    can_be_made: bool = True
    """Whether `convert` can make one."""


def _open_raw(store: ByteStore, options: OpenOptions) -> LayeredDevice:
    from vhdx.disks.raw import RawDevice
    from vhdx.storage.source import Owned

    return RawDevice.open(Owned(store), writable=options.writable)


def _open_vhdx(store: ByteStore, options: OpenOptions) -> LayeredDevice:
    from vhdx.disks.chain import open_chain
    from vhdx.storage.source import Owned

    return open_chain(Owned(store), options)


RAW: Final = Format("raw", (".raw", ".img", ".dd"), _open_raw)
VHDX: Final = Format("vhdx", (".vhdx", ".avhdx"), _open_vhdx)

FORMATS: Final[Mapping[str, Format]] = {row.name: row for row in (RAW, VHDX)}
NEW_FORMATS: Final = tuple(row.name for row in FORMATS.values() if row.can_be_made)
"""Names of those that `convert` can make."""


def check_can_be_made(name: str) -> None:
    """Refuse a format that `convert` does not make. Raises: RequestError."""
    if name not in NEW_FORMATS:
        raise RequestError(f"format {name!r} is not known: choose {' or '.join(NEW_FORMATS)}")


def format_of_name(path: str) -> Format | None:
    """The format that the suffix of a file's name promises; None if it promises none."""
    from pathlib import PurePath

    suffix = PurePath(path).suffix.lower()
    return next((row for row in FORMATS.values() if suffix in row.suffixes), None)
