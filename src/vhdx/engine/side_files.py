"""Hyper-V's change-tracking files, which lie beside an image and go stale when another program writes to it."""

import os
from typing import Final

from vhdx._text import quoted
from vhdx.findings import Finding
from vhdx.rules import RuleCode
from vhdx.storage.base import ByteStore, path_of

_SUFFIXES: Final = (".rct", ".mrt")


def side_files(store: ByteStore) -> list[str]:
    """Paths of the change-tracking files beside an image, or beside the file that it is a link to.

    They are looked for by name, never opened.
    """
    path = path_of(store)
    if path is None:
        return []
    # Hyper-V tracks the file, whatever links lead to it.
    images = [path, os.path.realpath(path)] if os.path.islink(path) else [path]  # noqa: PTH114
    candidates = [f"{image}{suffix}" for image in images for suffix in _SUFFIXES]
    # Not by pathlib, whose import takes longer than everything else that `vhdx info` does with a file.
    return [candidate for candidate in candidates if os.path.exists(candidate)]  # noqa: PTH110


def side_file_findings(store: ByteStore) -> list[Finding]:
    """A finding for each change-tracking file beside an image."""
    return [
        Finding(RuleCode.CHANGE_TRACKING, "side file", None, quoted(str(path))) for path in side_files(store)
    ]
