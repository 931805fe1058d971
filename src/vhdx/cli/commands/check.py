"""Look for damage in one image: every structure, every BAT entry, every overlap. Nothing is written.

Findings are printed as they are found. Parents are not opened.

Exit code: 0 without errors (warnings and notices do not count), 2 if there are errors, 3 if space is merely
leaked, 1 if the image could not be checked.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from vhdx.cli.options import add_image, add_json, add_opening, add_progress
from vhdx.cli.output import UNRELIABLE, escape, finding_json, size_text, warn_unreliable
from vhdx.cli.progress import ProgressLine
from vhdx.ops.check import check
from vhdx.rules import Severity

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from vhdx.cli.options import Parser
    from vhdx.findings import Finding
    from vhdx.ops.check import CheckRun, CheckSummary

_EXIT_CODES = {Severity.ERROR: 2, Severity.LEAK: 3}


def add_options(parser: Parser) -> None:
    """Take the image."""
    add_image(parser)
    add_json(parser)
    add_progress(parser)
    add_opening(parser)


def run(options: argparse.Namespace) -> int:
    """Check, and print what is found."""
    if options.force_share:
        warn_unreliable(options.image)
    with ProgressLine(always=options.progress) as progress:
        check_run = check(
            options.image, lock=not options.force_share, strict=options.strict, progress=progress
        )
        if options.json:
            _print_json(check_run, options)
        else:
            _print_lines(check_run, progress, options)
    worst = check_run.summary.worst
    return 0 if worst is None else _EXIT_CODES.get(worst, 0)


def _print_lines(check_run: CheckRun, progress: ProgressLine, options: argparse.Namespace) -> None:
    listed = 0
    for finding in check_run.findings():
        progress.clear()
        print(escape(str(finding)), flush=True)
        listed += 1
    progress.clear()
    summary = check_run.summary
    unlisted = _total(summary) - listed
    if unlisted:
        print(f"{unlisted} more findings of the same kinds are not listed")
    if summary.block_count:
        print(f"{summary.allocated_blocks} of {summary.block_count} blocks are allocated")
        print(f"{size_text(summary.unused_bytes)} of the file are unused")
    counts = [(summary.count(severity), severity.value) for severity in Severity]
    told = ", ".join(f"{count} {name}{'s' * (count != 1)}" for count, name in counts if count)
    print(f"{escape(options.image)}: {told or 'no findings'}")
    if options.force_share:
        print(f"not reliable: {UNRELIABLE}")


def _total(summary: CheckSummary) -> int:
    return sum(summary.count(severity) for severity in Severity)


def _print_json(check_run: CheckRun, options: argparse.Namespace) -> None:
    """Print one object; its findings come first, so that none has to be kept."""
    write = sys.stdout.write
    write(f'{{\n    "filename": {json.dumps(options.image)},\n    "format": "vhdx",\n    "findings": [')
    listed = 0
    for text in _finding_texts(check_run.findings()):
        write(f"{',' * bool(listed)}\n        {text}")
        listed += 1
    write("\n    ]" if listed else "]")
    figures = _figures(check_run.summary, listed, reliable=not options.force_share)
    for key, value in figures.items():
        write(f",\n    {json.dumps(key)}: {json.dumps(value)}")
    write("\n}\n")


def _finding_texts(findings: Iterator[Finding]) -> Iterator[str]:
    return (json.dumps(finding_json(finding)) for finding in findings)


def _figures(summary: CheckSummary, listed: int, *, reliable: bool) -> dict[str, Any]:
    """`qemu-img check`'s keys, then ours."""
    return {
        "check-errors": 0,
        "corruptions": summary.count(Severity.ERROR),
        "leaks": summary.count(Severity.LEAK),
        "total-clusters": summary.block_count,
        "allocated-clusters": summary.allocated_blocks,
        "image-end-offset": summary.file_size,
        "warnings": summary.count(Severity.WARNING),
        "notices": summary.count(Severity.NOTICE),
        "unlisted-findings": _total(summary) - listed,
        "virtual-size": summary.virtual_size,
        "unused-bytes": summary.unused_bytes,
        "reliable": reliable,
    }
