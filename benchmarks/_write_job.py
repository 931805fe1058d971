"""Carries out a writing job, in qemu-io's words, with this library: IMAGE as argument, the job on standard input.

A program of its own, because what it imports is measured, too.
"""

import sys

import vhdx


def main() -> None:
    """Carry out the job on standard input."""
    buffers: dict[int, bytes] = {}
    with vhdx.open(sys.argv[1], "r+") as disk:
        for line in sys.stdin:
            words = line.split()
            if words[0] == "flush":
                disk.flush()
                continue
            offset, length = int(words[1]), int(words[2])
            data = buffers.get(length)
            if data is None:
                data = buffers[length] = b"\xcd" * length
            disk.pwrite(data, offset)


if __name__ == "__main__":
    main()
