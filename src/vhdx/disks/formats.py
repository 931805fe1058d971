"""The formats that disks can have: the one list that the command, `convert` and `measure` go by.

A further format is a row here and a module beside this one with its `Layer` (and `LayerWriter`), whose name
`format.recognise` tells. What `convert` is to make needs a target in `ops.copying.targets`, too.

The modules of the formats are imported when a disk is opened, so that asking for a name costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from vhdx.errors import RequestError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

    from vhdx.disks.layered_device import LayeredDevice
    from vhdx.disks.options import OpenOptions
    from vhdx.format.recognise import FileKind
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


def format_of_content(store: ByteStore) -> tuple[Format | None, FileKind]:
    """The format that a file is to be opened in, going by its content, and what the content looks like.

    A file that looks like nothing known is a raw disk if it is a block device, or if its name promises that. None:
    it is in no format of the list, or may be. Raises: OSError.
    """
    from vhdx.format.recognise import PROBE_SIZE, recognise
    from vhdx.storage.base import both_ends, is_block_device

    looks = recognise(*both_ends(store, PROBE_SIZE))
    if looks.name is not None:
        return FORMATS.get(looks.name), looks
    is_named_raw = is_block_device(store) or format_of_name(store.name) is RAW
    return RAW if is_named_raw else None, looks


def open_for_reading(path: str | os.PathLike[str]) -> LayeredDevice:
    """Open a disk in the format that its content shows, and the parents that lie beside it.

    Raises: RequestError for a file of no known format; VhdxError, OSError.
    """
    from vhdx.disks.options import OpenOptions

    options = OpenOptions()
    store, _ = options.open_store(path)
    try:
        found, looks = format_of_content(store)
        if found is None:
            raise RequestError(
                f"{store.name}: not a VHDX but {looks}; if it is a raw disk, open it with RawDevice.open"
            )
    except BaseException:
        store.close()
        raise
    return found.open(store, options)
