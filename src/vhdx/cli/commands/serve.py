"""Serve images over the network block device protocol (NBD), as live disks.

Each IMAGE is one export: its name is that of --export, or what stands before a `=` in NAME=IMAGE, or else empty,
which is what clients ask for that name nothing. The address of each export is printed when the server is ready.

By default clients may write, the image is locked for that, and the server ends when its last client has left.
"""

from __future__ import annotations

import argparse
import os
import signal
from functools import partial
from typing import TYPE_CHECKING

from vhdx.cli.addresses import Address, listen, parse_address
from vhdx.cli.options import UsageError, add_format, add_opening, add_parents, add_writing, opening
from vhdx.cli.output import complain
from vhdx.cli.sources import open_source
from vhdx.nbd.export import Export
from vhdx.nbd.protocol.messages import check_export_name
from vhdx.nbd.server import MAX_CONNECTIONS, Server, ServerSettings
from vhdx.nbd.server_log import ServerLog

if TYPE_CHECKING:
    from vhdx.blockdev.device import DirectDevice
    from vhdx.cli.options import Parser


def add_options(parser: Parser) -> None:
    """Take the images, the address, and who may come."""
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="an image, or NAME=IMAGE")
    add_format(parser)
    parser.add_argument("--export", metavar="NAME", help="name of the export, if there is one IMAGE")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--read-only", action="store_true", help="clients cannot write")
    mode.add_argument(
        "--snapshot",
        action="store_true",
        help="clients may write, to a temporary file that is thrown away; the image does not change",
    )
    where = parser.add_argument_group("address").add_mutually_exclusive_group()
    where.add_argument("--socket", metavar="PATH", help="a Unix socket (default: one in a folder of its own)")
    where.add_argument(
        "--listen", metavar="HOST:PORT", type=parse_address, help="TCP; localhost if HOST is left out"
    )
    guard = parser.add_argument_group("who may come")
    guard.add_argument(
        "--tls-certs",
        metavar="DIR",
        help="require TLS, with server-cert.pem and server-key.pem of this folder; with ca-cert.pem there,"
        " clients must have a certificate from it",
    )
    guard.add_argument(
        "--allow-plaintext",
        action="store_true",
        help="serve without TLS on an address that other machines can reach",
    )
    guard.add_argument(
        "--max-connections", metavar="N", type=_positive, default=MAX_CONNECTIONS, help="default: %(default)s"
    )
    life = parser.add_argument_group("running")
    life.add_argument("--persistent", action="store_true", help="go on when the last client has left")
    life.add_argument("--pid-file", metavar="PATH", help="file to write the process's number to, once ready")
    life.add_argument("--verbose", action="store_true", help="log every request")
    life.add_argument("--stats", action="store_true", help="print figures at the end")
    add_parents(parser)
    add_opening(parser)
    add_writing(parser)


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return int(text)


def run(options: argparse.Namespace) -> int:
    """Serve until the last client has left, or until SIGTERM or SIGINT."""
    exports = _exports(options)
    tls = None
    if options.tls_certs is not None:
        from vhdx.nbd.tls import server_context

        tls = server_context(options.tls_certs)
    for export in exports.values():
        export.acquire()
        export.release()  # a bad image is found now; a good one is opened again when a client asks for it
    settings = ServerSettings(
        default_export=next(iter(exports)) if len(exports) == 1 else None,
        tls=tls,
        persistent=options.persistent,
        max_connections=options.max_connections,
    )
    server_log = ServerLog(complain, verbose=options.verbose, statistics=options.stats)
    address = options.listen or Address(path=options.socket)
    with listen(address, may_be_public=tls is not None or options.allow_plaintext) as listeners:
        server = Server(listeners.sockets, exports, server_log, settings)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: server.stop())
        with _PidFile(options.pid_file):
            for name in exports:
                print(listeners.uri(name, tls=tls is not None), flush=True)
            server.serve()
    for line in server_log.statistics():
        complain(line)
    return 0


def _exports(options: argparse.Namespace) -> dict[str, Export]:
    exports: dict[str, Export] = {}
    for text in options.images:
        name, path = _split(text, options.export)
        check_export_name(name)
        if name in exports:
            raise UsageError(f"two exports are called {name!r}; give them names with NAME=IMAGE")
        exports[name] = Export(
            name,
            partial(_open, path, options),
            description=os.path.basename(path),  # noqa: PTH119
            keeps_open=options.snapshot,
        )
    if options.export is not None and len(exports) > 1:
        raise UsageError("--export names one export; give each its name with NAME=IMAGE")
    return exports


def _split(text: str, default_name: str | None) -> tuple[str, str]:
    """Name and path. A text that is the path of a file, equals sign included, is a path and no more."""
    name, equals, path = text.partition("=")
    if not equals or "/" in name or os.path.exists(text):  # noqa: PTH110
        return default_name or "", text
    return name, path


def _open(path: str, options: argparse.Namespace) -> DirectDevice:
    """Open one image as the options say. Raises: UsageError, VhdxError, OSError."""
    writable = not (options.read_only or options.snapshot)
    device = open_source(path, options.format, opening(options, writable=writable))
    if not options.snapshot:
        return device
    from vhdx.ops.snapshot import open_snapshot

    return open_snapshot(device)


class _PidFile:
    """A file with the process's number in it, for as long as the server is ready."""

    def __init__(self, path: str | None) -> None:
        self._path = path

    def __enter__(self) -> None:
        if self._path is not None:
            with open(self._path, "w", encoding="ascii") as file:  # noqa: PTH123
                file.write(f"{os.getpid()}\n")

    def __exit__(self, *_: object) -> None:
        if self._path is not None:
            os.unlink(self._path)  # noqa: PTH108
