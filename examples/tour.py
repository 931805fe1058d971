"""A first look at vhdx: make a raw disk, put it into a VHDX, look at that, and get the raw disk back.

Everything happens in a temporary directory, with the `vhdx` command that is installed beside this Python.
"""

import subprocess
import sys
import tempfile
from pathlib import Path


def vhdx(*arguments: str) -> None:
    """Run one command, showing it as a user would type it."""
    print(f"\n$ vhdx {' '.join(arguments)}", flush=True)
    subprocess.run([sys.executable, "-m", "vhdx", *arguments], check=True)


def make_raw_disk(path: Path) -> None:
    """A sparse 200 MiB disk with some data near its start and some in its middle."""
    with path.open("wb") as raw:
        raw.truncate(200 << 20)
        raw.write(b"Hello from a raw disk. " * 4096)
        raw.seek(100 << 20)
        raw.write(bytes(range(256)) * 8192)


def main() -> None:
    """Run the tour."""
    with tempfile.TemporaryDirectory() as directory:
        raw, image, back = (str(Path(directory, name)) for name in ("disk.raw", "disk.vhdx", "back.raw"))
        make_raw_disk(Path(raw))
        vhdx("create", str(Path(directory, "empty.vhdx")), "64G")
        vhdx("convert", "--block-size", "2M", raw, image)
        vhdx("info", image)
        vhdx("map", image)
        vhdx("check", image)
        vhdx("convert", image, back)
        vhdx("compare", raw, image)
        same = Path(raw).read_bytes() == Path(back).read_bytes()
        print("\nThe raw disk came back", "byte for byte." if same else "CHANGED.")
        if not same:
            sys.exit(1)


if __name__ == "__main__":
    main()
