"""Mounts for tests, which never outlive their test: a process of its own, an end that is forced if need be."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from support.programs import need, run

HANG_GUARD_SECONDS = 60


def need_fuse() -> None:
    """Skip the test where nothing can be mounted."""
    try:
        import mfusepy  # noqa: F401
    except (ImportError, OSError, AttributeError) as error:
        pytest.skip(f"mfusepy or libfuse is missing: {error} (pip install 'vhdx[fuse]', Debian: fuse3)")
    need("fusermount3", "fuse3")
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as error:
        pytest.skip(f"/dev/fuse cannot be used: {error}")


def need_root() -> None:
    """Skip the test where loop devices cannot be made and mounted."""
    if os.geteuid():
        pytest.skip("loop mounts are for root")
    if not Path("/dev/loop-control").exists():
        pytest.skip("this system has no loop devices")


class MountProcess:
    """`vhdx mount --foreground` at a directory. Attributes: `directory`, `out` (what it has announced)."""

    def __init__(self, image: Path, directory: Path, *options: str) -> None:
        self.directory = directory
        command = [
            sys.executable,
            "-m",
            "vhdx",
            "mount",
            "--foreground",
            *options,
            str(image),
            str(directory),
        ]
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.err = ""
        self._reader = threading.Thread(target=self._collect, daemon=True)
        self._reader.start()
        # A mount that never comes must not hold up the suite.
        guard = threading.Timer(HANG_GUARD_SECONDS, self.process.kill)
        guard.start()
        assert self.process.stdout is not None
        self.out = ""
        for line in self.process.stdout:
            self.out += line
            if line.startswith("unmount with"):
                break
        guard.cancel()
        if not self.out.endswith(f"{directory}\n"):
            self.end()
            raise AssertionError(f"not mounted: {self.out}{self.err}")

    def _collect(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.err += line

    def file(self, name: str = "disk.raw") -> Path:
        """One of the files."""
        return self.directory / name

    def signal(self, number: int) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def wait(self) -> int:
        """Exit code, when the process has ended."""
        code = self.process.wait(HANG_GUARD_SECONDS)
        self._reader.join(HANG_GUARD_SECONDS)
        return code

    def unmount(self) -> int:
        """Unmount as a user would, and return the exit code of the process that had mounted."""
        run(sys.executable, "-m", "vhdx", "unmount", self.directory)
        return self.wait()

    def end(self) -> None:
        """Leave neither mount nor process behind, whatever state they are in."""
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(5)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(HANG_GUARD_SECONDS)
        force_unmount(self.directory)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                self._reader.join(HANG_GUARD_SECONDS)
                stream.close()


def force_unmount(directory: Path) -> None:
    """Take away whatever is mounted at a directory."""
    for command in (["umount", "-l"], ["fusermount3", "-uz"]):
        if not is_mounted(directory):
            return
        if shutil.which(command[0]):
            subprocess.run([*command, str(directory)], capture_output=True, check=False, timeout=30)


def is_mounted(directory: Path) -> bool:
    """Whether the system's table names the directory; does not ask the mount itself, which may be dead."""
    table = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    # Blanks in names are written as octal numbers.
    return str(directory).replace(" ", r"\040") in (line.split(" ")[4] for line in table.splitlines())


@contextmanager
def mounted(image: Path, directory: Path, *options: str) -> Iterator[MountProcess]:
    """Mount an image until the block ends."""
    directory.mkdir(exist_ok=True)
    mount = MountProcess(image, directory, *options)
    try:
        yield mount
    finally:
        mount.end()


@contextmanager
def loop_mounted(file: Path, directory: Path, *options: str) -> Iterator[Path]:
    """Mount a file system that is in a file until the block ends, through a loop device."""
    directory.mkdir(exist_ok=True)
    run("mount", "-o", ",".join(("loop", *options)), file, directory)
    try:
        yield directory
        run("umount", directory)
    finally:
        force_unmount(directory)
