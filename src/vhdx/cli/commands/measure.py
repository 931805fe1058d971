"""Tell how large the file would be that 'convert' makes of a disk. Only metadata is looked at.

'required' is enough for the data that is there now, 'fully-allocated' for whatever may be written later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vhdx.cli.options import (
    add_format,
    add_geometry,
    add_image,
    add_json,
    add_opening,
    add_parents,
    add_progress,
    opening,
    refuse_geometry_of_raw,
)
from vhdx.cli.output import print_fields, print_json, size_text
from vhdx.cli.progress import ProgressLine
from vhdx.cli.sources import open_source
from vhdx.disks.formats import NEW_FORMATS
from vhdx.ops.measure import measure

if TYPE_CHECKING:
    import argparse

    from vhdx.cli.options import Parser


def add_options(parser: Parser) -> None:
    """Take the disk, and what it would be converted into."""
    add_image(parser, text="the disk")
    add_json(parser)
    add_format(parser, of="IMAGE")
    parser.add_argument(
        "-O", dest="target_format", choices=NEW_FORMATS, default="vhdx", help="format to make (default: vhdx)"
    )
    add_geometry(parser)
    add_progress(parser)
    add_parents(parser)
    add_opening(parser)


def run(options: argparse.Namespace) -> int:
    """Print the two figures."""
    if options.target_format == "raw":
        refuse_geometry_of_raw(options)
    with (
        ProgressLine(always=options.progress) as progress,
        open_source(options.image, options.format, opening(options)) as disk,
    ):
        measurement = measure(
            disk,
            format=options.target_format,
            kind="fixed" if options.fixed else "dynamic",
            block_size=options.block_size,
            logical_sector_size=options.sector_size,
            progress=progress,
        )
    if options.json:
        print_json(measurement.as_json())
    else:
        print_fields(
            [
                ("required size", size_text(measurement.required)),
                ("fully allocated size", size_text(measurement.fully_allocated)),
            ]
        )
    return 0
