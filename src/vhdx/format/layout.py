"""Where the parts of a new image lie in its file: the places in which Windows puts them.

    0        file type identifier, headers, region tables
    1 MiB    log
    2 MiB    metadata
    3 MiB    BAT (later only if the metadata needs more than 1 MiB)
    then     payload blocks

Only new images are laid out like this. Where the parts of an existing image lie is told by its header and its
region tables, and may be anywhere at or above 1 MiB ([MS-VHDX] 2.1).
"""

from dataclasses import dataclass
from typing import Final

from vhdx._units import MIB, align_up
from vhdx.format.constants import HEADER_SECTION_SIZE, STRUCTURE_ALIGNMENT
from vhdx.format.geometry import Geometry

LOG_FILE_OFFSET: Final = HEADER_SECTION_SIZE
LOG_LENGTH: Final = MIB
METADATA_FILE_OFFSET: Final = LOG_FILE_OFFSET + LOG_LENGTH


@dataclass(frozen=True, slots=True)
class ImageLayout:
    """The layout of one new image. Offsets and lengths are bytes of the file."""

    geometry: Geometry
    metadata_length: int = MIB
    """Of the metadata region: a multiple of 1 MiB."""

    @property
    def bat_offset(self) -> int:
        """File offset of the BAT region."""
        return METADATA_FILE_OFFSET + self.metadata_length

    @property
    def bat_length(self) -> int:
        """Length of the BAT region."""
        return align_up(self.geometry.bat_size, STRUCTURE_ALIGNMENT)

    @property
    def payload_offset(self) -> int:
        """File offset of the first payload block, and so the length of an image that has none."""
        return self.bat_offset + self.bat_length

    def file_size(self, block_count: int) -> int:
        """Length of the file of an image that has space for this many payload blocks."""
        return self.payload_offset + block_count * self.geometry.block_size
