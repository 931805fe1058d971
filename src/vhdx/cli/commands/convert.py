"""Copy a disk into a new raw or VHDX file. A differencing image is copied with what its parents hold.

DST appears only when it is complete; zeroes take no space in it. '-' as DST writes a raw disk to stdout.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from vhdx.cli.options import (
    UsageError,
    add_force,
    add_format,
    add_geometry,
    add_image,
    add_opening,
    add_parents,
    add_progress,
    opening,
    refuse_geometry_of_raw,
)
from vhdx.cli.progress import ProgressLine
from vhdx.cli.sources import open_source
from vhdx.disks.formats import NEW_FORMATS, RAW, format_of_name
from vhdx.ops.convert import convert

if TYPE_CHECKING:
    import argparse

    from vhdx.blockdev.device import BlockDevice
    from vhdx.cli.options import Parser
    from vhdx.disks.formats import FormatName

_STDOUT: Final = "-"


def add_options(parser: Parser) -> None:
    """Take source, destination and how to make it."""
    add_image(parser, "SRC", "the disk to copy")
    add_image(parser, "DST", "the file to make, or '-' for stdout")
    add_format(parser, of="SRC")
    parser.add_argument(
        "-O",
        dest="target_format",
        choices=NEW_FORMATS,
        help="format to make (default: what DST's suffix says)",
    )
    add_geometry(parser)
    add_force(parser)
    add_progress(parser)
    add_parents(parser)
    add_opening(parser)


def run(options: argparse.Namespace) -> int:
    """Convert."""
    target_format = options.target_format or _format_of_name(options.dst)
    if target_format == "raw":
        refuse_geometry_of_raw(options)
    elif options.dst == _STDOUT:
        raise UsageError("a VHDX cannot be written to stdout: name a file")
    with (
        open_source(options.src, options.format, opening(options)) as source,
        ProgressLine(always=options.progress) as progress,
    ):
        if options.dst == _STDOUT:
            _write_to_stdout(source, progress)
        else:
            convert(
                source,
                options.dst,
                format=target_format,
                kind="fixed" if options.fixed else "dynamic",
                block_size=options.block_size,
                logical_sector_size=options.sector_size,
                physical_sector_size=options.physical_sector_size,
                overwrite=options.force,
                progress=progress,
            )
    return 0


def _format_of_name(name: str) -> FormatName:
    promised = RAW if name == _STDOUT else format_of_name(name)
    if promised is None or not promised.can_be_made:
        choice = " or ".join(f"-O {known}" for known in NEW_FORMATS)
        raise UsageError(f"{name}: the name does not tell the format to make; use {choice}")
    return promised.name


def _write_to_stdout(source: BlockDevice, progress: ProgressLine) -> None:
    from vhdx.ops.pipe import write_to_pipe

    if sys.stdout is None:
        raise UsageError("stdout is closed: name a file to write to")
    if sys.stdout.isatty():
        raise UsageError("stdout is a terminal, which is no place for a disk: name a file, or use a pipe")
    write_to_pipe(source, sys.stdout.buffer, progress)
