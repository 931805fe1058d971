"""Sizes, written down a second time: a test does not ask the library how long a mebibyte is."""

from typing import Final

KIB: Final = 1 << 10
MIB: Final = 1 << 20
GIB: Final = 1 << 30
TIB: Final = 1 << 40
