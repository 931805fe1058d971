"""The file type identifier: the first 64 KiB of every VHDX ([MS-VHDX] 2.2.1)."""

from dataclasses import dataclass
from typing import Final

from vhdx.format.constants import FILE_SIGNATURE

IDENTIFIER_SIZE: Final = 520
_MAX_CREATOR_UNITS: Final = 256


@dataclass(frozen=True, slots=True)
class FileIdentifier:
    """Who made the file. Diagnostic only: nothing may depend on it."""

    creator: str

    @classmethod
    def decode(cls, data: bytes) -> "FileIdentifier":
        """Read 520 bytes whose signature has been checked; never fails on the creator's content."""
        text = data[len(FILE_SIGNATURE) : IDENTIFIER_SIZE].decode("utf-16-le", "replace")
        return cls(text.partition("\0")[0])

    def encode(self) -> bytes:
        """Write the 520 bytes; a creator of more than 256 UTF-16 code units is cut."""
        units = self.creator.encode("utf-16-le", "replace")[: 2 * _MAX_CREATOR_UNITS]
        return (FILE_SIGNATURE + units).ljust(IDENTIFIER_SIZE, b"\0")
