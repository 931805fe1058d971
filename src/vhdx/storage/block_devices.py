"""Which loop devices stand on a file, as Linux tells in /sys. Other systems tell nothing: every answer is empty."""

import os
from typing import Final

from vhdx._processes import Identity, identity_of, read_text

_BLOCK_DEVICES: Final = "/sys/block"


def loop_devices_on(identity: Identity) -> list[str]:
    """Loop devices whose content is a file."""
    try:
        names = os.listdir(_BLOCK_DEVICES)
    except OSError:
        return []
    return [f"/dev/{name}" for name in names if name.startswith("loop") and _backing_file(name) == identity]


def _backing_file(loop: str) -> Identity | None:
    """The file that is a loop device's content."""
    path = read_text(f"{_BLOCK_DEVICES}/{loop}/loop/backing_file").rstrip("\n")
    return identity_of(path) if path else None
