"""Taking host space for ranges of one open file, giving it back, and zeroing ranges without writing them."""

from typing import Final

from vhdx import _host
from vhdx.storage import libc

_RESERVE: Final = 0
_PUNCH: Final = libc.FALLOC_PUNCH_HOLE | libc.FALLOC_KEEP_SIZE
_ZERO: Final = libc.FALLOC_ZERO_RANGE | libc.FALLOC_KEEP_SIZE


class FileSpace:
    """`SpaceControl` over a descriptor that stays its owner's, by fallocate(2).

    A block device offers nothing here: what it calls a hole need not read as zeroes. A way that the file system
    turns out not to have is not tried again. The owner checks that the descriptor is open and the range possible.
    """

    def __init__(self, fd: int, name: str, *, is_block_device: bool) -> None:
        self._fd = fd
        self._name = name
        has_fallocate = _host.HAVE_FALLOCATE and not is_block_device
        self._modes = frozenset((_RESERVE, _PUNCH, _ZERO) if has_fallocate else ())

    @property
    def can_punch(self) -> bool:
        return _PUNCH in self._modes

    @property
    def can_zero_unwritten(self) -> bool:
        return not self._modes.isdisjoint((_PUNCH, _ZERO))

    def reserve(self, length: int, file_offset: int) -> bool:
        return self._fallocate(_RESERVE, length, file_offset)

    def punch_hole(self, length: int, file_offset: int) -> None:
        self._fallocate(_PUNCH, length, file_offset)

    def zero_unwritten(self, length: int, file_offset: int, *, may_punch: bool) -> bool:
        modes = (_PUNCH, _ZERO) if may_punch else (_ZERO,)
        return any(self._fallocate(mode, length, file_offset) for mode in modes)

    def _fallocate(self, mode: int, length: int, file_offset: int) -> bool:
        """Whether the file system did it, or there was nothing to do. Raises: OSError."""
        if not length:
            return True
        if mode not in self._modes:
            return False
        try:
            libc.fallocate(self._fd, mode, file_offset, length)
        except OSError as error:
            if error.errno not in _host.UNSUPPORTED:
                error.filename = self._name
                raise
            self._modes -= {mode}
            return False
        return True
