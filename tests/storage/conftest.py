"""Fixtures of the storage tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from vhdx.storage.file import FileStore


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A file of 64 KiB in which every 4 bytes tell their place."""
    path = tmp_path / "image.bin"
    path.write_bytes(b"".join(number.to_bytes(4, "little") for number in range(16384)))
    return path


@pytest.fixture
def store(image: Path) -> Iterator[FileStore]:
    """The same file, open for writing."""
    with FileStore.open(image, writable=True) as opened:
        yield opened
