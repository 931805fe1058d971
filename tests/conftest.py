"""What every part of the suite may use: the real images, unpacked once for each session, and the no-skips rule.

With VHDX_FORBID_SKIPS=1 a skipped test counts as failed: for machines where every peer has been installed.
"""

import bz2
import gzip
import hashlib
import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from support.media import loop_device, small_file_system
from support.samples import SAMPLES, SAMPLES_FOLDER

# No test asserts a time: an example may take as long as a busy machine needs.
settings.register_profile("vhdx", deadline=None)
settings.load_profile("vhdx")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark whatever reads a real image."""
    for item in items:
        if "sample_folder" in getattr(item, "fixturenames", ()):
            item.add_marker("samples")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and os.environ.get("VHDX_FORBID_SKIPS") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, where no test may be: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def sample_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("samples")


def unpack_sample(name: str, folder: Path) -> Path:
    """Unpack a real image into `folder` unless that has been done; skip the test where it is absent."""
    target = folder / name
    if target.exists():
        return target
    for suffix, module in ((".gz", gzip), (".bz2", bz2)):
        packed = SAMPLES_FOLDER / (name + suffix)
        if packed.exists():
            content = module.decompress(packed.read_bytes())
            assert hashlib.sha256(content).hexdigest() == SAMPLES[name], f"{packed} is not the image it was"
            target.write_bytes(content)
            target.chmod(0o444)
            return target
    pytest.skip(f"the real image {name} is not in {SAMPLES_FOLDER}")


@pytest.fixture(params=sorted(SAMPLES))
def sample(request: pytest.FixtureRequest, sample_folder: Path) -> Path:
    """Each real image in turn, read-only."""
    name: str = request.param
    return unpack_sample(name, sample_folder)


@pytest.fixture
def btrfs_sample(sample_folder: Path) -> Path:
    return unpack_sample("btrfs.vhdx", sample_folder)


@pytest.fixture
def swap_sample(sample_folder: Path) -> Path:
    return unpack_sample("swap.vhdx", sample_folder)


@pytest.fixture
def windows_dirty_sample(sample_folder: Path) -> Path:
    return unpack_sample("vhdx-log-replay.vhdx", sample_folder)


@pytest.fixture
def qemu_dirty_sample(sample_folder: Path) -> Path:
    return unpack_sample("iotest-dirtylog-10G-4M.vhdx", sample_folder)


@pytest.fixture
def dynamic_sample(sample_folder: Path) -> Path:
    return unpack_sample("iotest-dynamic-1G.vhdx", sample_folder)


@pytest.fixture
def disk2vhd_sample(sample_folder: Path) -> Path:
    return unpack_sample("test-disk2vhd.vhdx", sample_folder)


@pytest.fixture
def block_device(tmp_path: Path) -> Iterator[str]:
    """A block device of 1 MiB full of "d"."""
    with loop_device(tmp_path) as device:
        yield device


@pytest.fixture(params=["tmpfs", "ext4"])
def small_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A folder with about 20 MiB of space."""
    with small_file_system(request.param, tmp_path) as folder:
        yield folder
