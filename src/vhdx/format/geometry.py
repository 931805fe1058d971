"""How a disk's sizes lay out its blocks, chunks and BAT ([MS-VHDX] 2.4, 2.5). All of it is derived."""

from dataclasses import dataclass
from typing import Final

from vhdx._units import div_ceil
from vhdx.format.constants import BAT_ENTRY_SIZE

SECTORS_PER_BITMAP_BLOCK: Final = 1 << 23


@dataclass(frozen=True, slots=True)
class Geometry:
    """A virtual disk's sizes in bytes, and the block arithmetic that follows from them."""

    virtual_size: int
    block_size: int
    logical_sector_size: int
    has_parent: bool

    @property
    def chunk_ratio(self) -> int:
        """Payload blocks that share one sector bitmap block."""
        return SECTORS_PER_BITMAP_BLOCK * self.logical_sector_size // self.block_size

    @property
    def block_count(self) -> int:
        """Payload blocks of the disk; the last one may reach past its end."""
        return div_ceil(self.virtual_size, self.block_size)

    @property
    def chunk_count(self) -> int:
        """Chunks, begun ones included: as many as sector bitmap blocks in a differencing image."""
        return div_ceil(self.block_count, self.chunk_ratio)

    @property
    def entry_count(self) -> int:
        """BAT entries in use: payload and sector bitmap entries interleaved."""
        if self.has_parent:
            return self.chunk_count * (self.chunk_ratio + 1)
        return self.block_count + (self.block_count - 1) // self.chunk_ratio

    @property
    def bat_size(self) -> int:
        """Bytes that the BAT needs."""
        return self.entry_count * BAT_ENTRY_SIZE

    @property
    def sectors_per_block(self) -> int:
        """Logical sectors in a payload block."""
        return self.block_size // self.logical_sector_size

    def entry_of_block(self, block: int) -> int:
        """BAT index of a payload block."""
        return block + block // self.chunk_ratio

    def entry_of_bitmap(self, chunk: int) -> int:
        """BAT index of a chunk's sector bitmap block."""
        return chunk * (self.chunk_ratio + 1) + self.chunk_ratio

    def locate_entry(self, index: int) -> tuple[int, int | None]:
        """What a BAT index belongs to: (chunk, payload block), the block None for a sector bitmap."""
        chunk, position = divmod(index, self.chunk_ratio + 1)
        if position == self.chunk_ratio:
            return chunk, None
        return chunk, chunk * self.chunk_ratio + position

    def block_length(self, block: int) -> int:
        """Bytes of the disk in a payload block: the block size, except perhaps for the last one."""
        return min(self.block_size, self.virtual_size - block * self.block_size)
