"""Every on-disk structure of a file with its place, whether it is sound or not.

Each structure is decoded on its own, and what is wrong with it stands beside it; so that one that is damaged
hides no other, as far as the file itself says where the others are. The structures are those on disk. If the
log is dirty and can be replayed, the regions are shown a second time as they are after replay.
"""

from vhdx.ops.dump.file import dump
from vhdx.ops.dump.structure import Structure

__all__ = ["Structure", "dump"]
