"""Print one line for each file: 'vhdx', a score, and the file's name. The score is 100 for a VHDX, else 0.

Exit code: 0 if every file is a VHDX, else 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vhdx.cli.output import complain, describe_os_error, escape
from vhdx.ops.probe import probe

if TYPE_CHECKING:
    import argparse

    from vhdx.cli.options import Parser


def add_options(parser: Parser) -> None:
    """Take the file names."""
    parser.add_argument("files", metavar="FILE", nargs="+", help="a file to look at")


def run(options: argparse.Namespace) -> int:
    """Probe every file; one that cannot be read does not stop the others."""
    are_all_vhdx = True
    for path in options.files:
        try:
            score = probe(path)
        except OSError as error:
            complain(describe_os_error(error))
            are_all_vhdx = False
            continue
        are_all_vhdx = are_all_vhdx and score == 100
        print(f"vhdx {score} {escape(path)}")
    return 0 if are_all_vhdx else 1
