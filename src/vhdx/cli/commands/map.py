"""List which parts of a disk hold data, which read as zeroes, and where the data lies in which file.

The content is not read, and nothing is kept in memory: a large disk's map begins to come at once. Parts that
lie in a parent which is not there are listed as not present. With --json, each item has the keys of
'qemu-img map': start, length, depth, present, zero, data, offset.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vhdx.cli.options import add_format, add_image, add_json, add_opening, add_parents, opening
from vhdx.cli.output import complain, escape, print_json_list
from vhdx.cli.sources import open_source

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from vhdx.blockdev.extent import Extent
    from vhdx.cli.options import Parser
    from vhdx.errors import ChainError


def add_options(parser: Parser) -> None:
    """Take the image and how to open it."""
    add_image(parser)
    add_json(parser)
    add_format(parser)
    add_parents(parser)
    add_opening(parser)


def run(options: argparse.Namespace) -> int:
    """Print the map while it is made."""
    how = replace(opening(options), on_missing_parent=_warn_of_missing)
    with open_source(options.image, options.format, how) as disk:
        if options.json:
            print_json_list(map(_item, disk.extents()))
        else:
            _print_table(disk.extents(), [layer.name for layer in disk.layers])
    return 0


def _warn_of_missing(missing: ChainError) -> None:
    complain(f"warning: what lies in a parent is shown as not present: {missing}")


def _item(extent: Extent) -> dict[str, Any]:
    item: dict[str, Any] = {
        "start": extent.offset,
        "length": extent.length,
        "depth": extent.depth,
        "present": extent.present,
        "zero": extent.zero,
        "data": extent.data,
    }
    if extent.file_offset is not None:
        item["offset"] = extent.file_offset
    return item


def _print_table(extents: Iterable[Extent], names: list[str]) -> None:
    # Fixed widths: the rows are printed before it is known how long the numbers will get.
    print(f"{'Offset':<16}{'Length':<16}{'Content':<13}{'Mapped to':<16}File")
    for extent in extents:
        place = "-" if extent.file_offset is None else f"{extent.file_offset:#x}"
        file = escape(names[extent.depth]) if extent.present else "-"
        print(f"{extent.offset:<#16x}{extent.length:<#16x}{_content(extent):<13}{place:<16}{file}")


def _content(extent: Extent) -> str:
    if extent.unreadable:
        return "not present"
    if extent.zero:
        return "zero" if extent.present else "unallocated"
    return "data"
