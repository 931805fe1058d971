"""Tell whether two disks have the same content, whatever their formats and layouts.

If their sizes differ, what the longer one has more must read as zeroes.

Exit code: 0 if they are the same, 1 if they differ (the first difference is named), 2 on an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vhdx.cli.options import add_format, add_image, add_opening, add_parents, add_progress, opening
from vhdx.cli.output import complain
from vhdx.cli.progress import ProgressLine
from vhdx.cli.sources import open_source
from vhdx.ops.compare import compare

if TYPE_CHECKING:
    import argparse

    from vhdx.cli.options import Parser


def add_options(parser: Parser) -> None:
    """Take the two disks."""
    add_image(parser, "A", "a disk")
    add_image(parser, "B", "the disk to compare it with")
    add_format(parser, "-f", "A")
    add_format(parser, "-F", "B")
    add_progress(parser)
    add_parents(parser)
    add_opening(parser)


def run(options: argparse.Namespace) -> int:
    """Compare, and name the first difference."""
    how = opening(options)
    with (
        open_source(options.a, options.format, how) as a,
        open_source(options.b, options.second_format, how) as b,
    ):
        if a.size != b.size:
            complain(f"warning: the sizes differ: {a.size} and {b.size} bytes; what is more must be zeroes")
        with ProgressLine(always=options.progress) as progress:
            difference = compare(a, b, progress=progress)
    if difference is None:
        print("Images are identical.")
        return 0
    print(f"Content mismatch at offset {difference.offset}!")
    return 1
