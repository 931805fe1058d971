"""Hyper-V's change-tracking files, which lie beside an image and go stale when another program writes to it."""

from pathlib import Path
from typing import Final

from vhdx.storage.base import ByteStore

_SUFFIXES: Final = (".rct", ".mrt")


def side_files(store: ByteStore) -> list[Path]:
    """Hyper-V's change-tracking files beside an image; looked for by name, never opened."""
    path = getattr(store, "path", None)
    if path is None:
        return []
    candidates = [Path(f"{path}{suffix}") for suffix in _SUFFIXES]
    return [candidate for candidate in candidates if candidate.exists()]
