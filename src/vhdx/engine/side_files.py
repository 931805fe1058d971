"""Hyper-V's change-tracking files, which lie beside an image and go stale when another program writes to it."""

import os
from typing import Final

from vhdx.storage.base import ByteStore

_SUFFIXES: Final = (".rct", ".mrt")


def side_files(store: ByteStore) -> list[str]:
    """Paths of the change-tracking files beside an image; looked for by name, never opened."""
    path = getattr(store, "path", None)
    if path is None:
        return []
    candidates = [f"{path}{suffix}" for suffix in _SUFFIXES]
    # Not by pathlib, whose import takes longer than everything else that `vhdx info` does with a file.
    return [candidate for candidate in candidates if os.path.exists(candidate)]  # noqa: PTH110
