"""Telling whether something is a VHDX, from its first eight bytes."""

import os

from vhdx._buffer import Buffer
from vhdx.format.constants import FILE_SIGNATURE
from vhdx.format.recognise import recognise
from vhdx.storage.base import pread
from vhdx.storage.source import reading


def probe(source: Buffer | str | os.PathLike[str]) -> int:
    """Score a file (its path) or content (bytes-like; the beginning is enough): 100 for a VHDX, else 0.

    Only the file type identifier is looked at, which never changes ([MS-VHDX] 2.2.1): no lock is needed. No
    content makes it raise. Raises: OSError for a path that cannot be read; TypeError for anything else.
    """
    if isinstance(source, str | os.PathLike):
        with reading(source, lock=False) as store:
            return _score(pread(store, len(FILE_SIGNATURE), 0))
    with memoryview(source) as content:
        if not content.nbytes:
            return 0
        with content.cast("B") as view:
            return _score(bytes(view[: len(FILE_SIGNATURE)]))


def _score(start: bytes) -> int:
    """As the probe of a block driver scores."""
    return 100 if recognise(start).name == "vhdx" else 0
