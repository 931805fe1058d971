"""Show a disk as files in a directory: disk.raw, and p1, p2, ... for its partitions.

Read-only unless --read-write is given. A file system inside can be mounted from there:
mount -o loop DIR/p1 /mnt. Unmount with 'vhdx unmount DIR', fusermount3 -u or umount.
"""

from __future__ import annotations

import os
import queue
import signal
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vhdx.cli.background import Background, fork_to_background
from vhdx.cli.options import add_format, add_image, add_opening, add_parents, add_writing, opening
from vhdx.cli.output import complain, escape, print_fields, quote, short_size
from vhdx.cli.sources import open_source
from vhdx.errors import ParentNotFoundError
from vhdx.fuse.files import disk_files
from vhdx.fuse.holders import listed, users_of_mount
from vhdx.fuse.mount import Mount, check_directory, check_fuse
from vhdx.guest.partitions import read_partitions

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from vhdx.blockdev.device import BlockDevice
    from vhdx.cli.options import Parser
    from vhdx.disks.layered_device import LayeredDevice
    from vhdx.guest.partitions import PartitionTable

RETRY_SECONDS: Final = 0.5
_END: Final = 0
_SIGNALS: Final = ("SIGINT", "SIGTERM", "SIGHUP")


def add_options(parser: Parser) -> None:
    """Take image, directory and how to mount."""
    add_image(parser)
    add_image(parser, "DIR", "an empty directory")
    add_format(parser)
    parser.add_argument(
        "--read-write", action="store_true", help="let the files be written to; the image is locked meanwhile"
    )
    parser.add_argument(
        "--foreground", action="store_true", help="stay until unmounted, and unmount on Ctrl-C or SIGTERM"
    )
    parser.add_argument("--allow-other", action="store_true", help="let other users see the files, too")
    add_parents(parser)
    add_opening(parser)
    add_writing(parser)


def run(options: argparse.Namespace) -> int:
    """Mount, and serve until unmounted."""
    check_directory(os.path.realpath(options.dir))
    check_fuse()
    background = None
    if not options.foreground:
        split = fork_to_background()
        if isinstance(split, int):
            return split
        background = split
    with _open(options) as device:
        table = read_partitions(device)
        for warning in table.warnings:
            complain(f"warning: {options.image}: {warning}")
        return _serve(device, table, options, background)


def _open(options: argparse.Namespace) -> LayeredDevice:
    disk = open_source(options.image, options.format, opening(options, writable=options.read_write))
    if not disk.is_complete:
        disk.close()
        raise ParentNotFoundError(
            f"{options.image}: a parent is needed, and was not opened; name it: --parent PATH"
        )
    return disk


def _serve(
    device: BlockDevice, table: PartitionTable, options: argparse.Namespace, background: Background | None
) -> int:
    events: queue.SimpleQueue[int] = queue.SimpleQueue()
    image = Path(options.image)
    mtime_ns = image.stat().st_mtime_ns
    mount = Mount(disk_files(device, table.partitions, mtime_ns), options.dir, complain)
    mount.start(
        str(image.absolute()),
        writable=options.read_write,
        allow_other=options.allow_other,
        on_end=lambda: events.put(_END),
    )
    with _signals_into(events):
        _announce(mount, table, options)
        if background is not None:
            background.ready()
        _wait_for_end(mount, events)
    return 0


def _announce(mount: Mount, table: PartitionTable, options: argparse.Namespace) -> None:
    """Say what is where. A line for each file."""
    directory = escape(mount.directory)
    how = "for reading and writing" if options.read_write else "read-only"
    print(f"{escape(options.image)} is mounted at {directory}, {how}")
    print_fields(_rows(mount, table), indent="    ")
    if table.kind is None and table.content is not None:
        print(f"no partition table; the disk itself is {table.content}: mount {directory}/disk.raw")
    elif table.kind is None:
        print("no partition table")
    print(f"unmount with: vhdx unmount {directory}", flush=True)


def _rows(mount: Mount, table: PartitionTable) -> Iterator[tuple[str, str]]:
    whole, *others = mount.files
    yield whole.name, f"{short_size(whole.size)}, the whole disk"
    for file, partition in zip(others, table.partitions, strict=True):
        content = file.recognise() or "nothing known"
        label = f", {quote(partition.name)}" if partition.name else ""
        yield file.name, f"{short_size(file.size)}, {content}{label}"


@contextmanager
def _signals_into(events: queue.SimpleQueue[int]) -> Iterator[None]:
    """Put the numbers of signals that ask the process to end into a queue; ignored ones stay ignored."""
    before = {}
    for name in _SIGNALS:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, lambda which, _: events.put(which))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait_for_end(mount: Mount, events: queue.SimpleQueue[int]) -> None:
    """Return when nothing is mounted any more: somebody unmounts it, or a signal asks for it.

    While the mount is busy it stays, and is tried again; a second signal detaches it all the same.
    """
    is_asked = False
    while True:
        try:
            event = events.get(timeout=RETRY_SECONDS if is_asked else None)
        except queue.Empty:
            event = None
        if event == _END:
            return
        if event is not None and is_asked:
            complain(f"{mount.directory}: detached while in use: whoever still has a file open gets errors")
            mount.detach()
            return
        is_asked = True
        if mount.unmount() or event is None:
            continue
        users = users_of_mount(mount.directory)
        complain(
            f"{mount.directory}: busy: {listed(users) or 'users that cannot be told (root may see more)'};"
            " it is unmounted when they are done; a second signal detaches it at once, and they get errors"
        )
