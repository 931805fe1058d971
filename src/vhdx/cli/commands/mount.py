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
from vhdx.cli.streams import collected_stderr
from vhdx.errors import MountError, ParentNotFoundError
from vhdx.fuse.files import disk_files
from vhdx.fuse.holders import listed, users_of_mount
from vhdx.fuse.mount import Mount, RefusedMountError
from vhdx.fuse.requirements import check_directory, check_fuse
from vhdx.guest.file_systems import recognise
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
    mtime_ns = Path(options.image).stat().st_mtime_ns
    mount = Mount(disk_files(device, table.partitions, mtime_ns), options.dir, complain)
    _start(mount, options, events)
    with _signals_into(events):
        _announce(mount, device, table, options)
        if background is not None:
            background.ready()
        _wait_for_end(mount, events)
    return 0


def _start(mount: Mount, options: argparse.Namespace, events: queue.SimpleQueue[int]) -> None:
    """Mount. What libfuse and its helper write to stderr is the reason if they refuse, and is passed on if not."""
    refused: RefusedMountError | None = None
    with collected_stderr() as said:
        try:
            mount.start(
                str(Path(options.image).absolute()),
                writable=options.read_write,
                allow_other=options.allow_other,
                on_end=lambda: events.put(_END),
            )
        except RefusedMountError as error:
            refused = error
    if refused is not None:
        lines = [line.strip() for line in said().splitlines() if line.strip()]
        reason = lines[-1] if lines else f"libfuse gives no reason ({refused.__cause__})"
        advice = ""
        if options.allow_other and "user_allow_other" in reason:
            advice = "; add the line user_allow_other to /etc/fuse.conf, or leave out --allow-other"
        raise MountError(f"{mount.directory}: cannot be mounted: {reason}{advice}")
    os.write(2, said().encode(errors="replace"))


def _announce(mount: Mount, device: BlockDevice, table: PartitionTable, options: argparse.Namespace) -> None:
    """Print which files there are, each with what it holds."""
    directory = escape(mount.directory)
    how = "for reading and writing" if options.read_write else "read-only"
    print(f"{escape(options.image)} is mounted at {directory}, {how}")
    print_fields(_rows(mount, device, table), indent="    ")
    if table.kind is None and table.content is not None:
        print(f"no partition table; the disk itself is {table.content}: mount {directory}/disk.raw")
    elif table.kind is None:
        print("no partition table")
    print(f"unmount with: vhdx unmount {directory}", flush=True)


def _rows(mount: Mount, device: BlockDevice, table: PartitionTable) -> Iterator[tuple[str, str]]:
    whole, *others = mount.files
    yield whole.name, f"{short_size(whole.size)}, the whole disk"
    for file, partition in zip(others, table.partitions, strict=True):
        content = recognise(device, partition.offset) or "nothing known"
        label = f", {quote(partition.name)}" if partition.name else ""
        yield file.name, f"{short_size(file.size)}, {content}{label}"


@contextmanager
def _signals_into(events: queue.SimpleQueue[int]) -> Iterator[None]:
    """Put the numbers of signals that ask the process to end into a queue, but for signals that are ignored."""
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
    """Return when nothing is mounted any more: somebody has unmounted the directory, or a signal asks for that.

    After the first signal unmounting is tried again and again until nobody uses a file; a second signal detaches
    the mount although somebody does.
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
