"""What the tests of real mounts share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.mounting import force_unmount


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """An empty directory; whatever a test leaves mounted there is taken away."""
    directory = tmp_path / "mount point"
    directory.mkdir()
    yield directory
    force_unmount(directory)
