"""List which parts of a disk hold data, which read as zeroes, and where the data lies in which file.

The content is not read, and nothing is kept in memory: a large disk's map begins to come at once. Parts that
lie in a parent which is not there are listed as not present. With --json, each item has the keys of
'qemu-img map': start, length, depth, present, zero, data, offset.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vhdx.cli.options import add_format, add_image, add_json, add_opening, add_parents
from vhdx.cli.output import complain, escape, print_json_list
from vhdx.cli.sources import open_source

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from vhdx.blockdev.extent import Extent
    from vhdx.cli.options import Parser
    from vhdx.ops.map import MappedDisk


def add_options(parser: Parser) -> None:
    """Take the image and how to open it."""
    add_image(parser)
    add_json(parser)
    add_format(parser)
    add_parents(parser)
    add_opening(parser)


