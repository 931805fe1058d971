"""Make a new image that reads as zeroes, or with --parent as its parent.

SIZE is in bytes, or a number with K, M, G or T (powers of 1024). With --parent it may be left out: the child
is then as large as its parent.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from vhdx.cli.options import UsageError, add_force, add_geometry, add_image, parse_size
from vhdx.cli.output import complain
from vhdx.ops.create import create

if TYPE_CHECKING:
    import argparse

    from vhdx.cli.options import Parser


def add_options(parser: Parser) -> None:
    """Take the name and what to make."""
    add_image(parser, text="the file to make")
    parser.add_argument("size", metavar="SIZE", type=parse_size, nargs="?", help="virtual size, such as 64G")
    add_geometry(parser)
    parser.add_argument("--parent", metavar="PATH", help="make a differencing image, a child of this one")
    add_force(parser)


def run(options: argparse.Namespace) -> int:
    """Make the image."""
    if options.size is None and options.parent is None:
        raise UsageError("SIZE is needed, such as 64G; see 'vhdx create --help'")
    if options.fixed and options.parent is not None:
        raise UsageError("--fixed and --parent exclude each other: a child is a differencing image")
    create(
        options.image,
        options.size,
        kind="fixed" if options.fixed else None,
        block_size=options.block_size,
        logical_sector_size=options.sector_size,
        physical_sector_size=options.physical_sector_size,
        parent=options.parent,
        overwrite=options.force,
    )
    if options.parent is not None and not _are_neighbours(options.image, options.parent):
        complain(
            "note: the parent lies in another directory, where it is not looked for by itself;"
            f" name it when the child is used: --parent {options.parent}"
        )
    return 0


def _are_neighbours(child: str, parent: str) -> bool:
    """Whether a reader of the child finds the parent by itself."""
    directories = [os.path.dirname(os.path.realpath(path)) for path in (child, parent)]  # noqa: PTH120
    return directories[0] == directories[1]
