"""Show every on-disk structure with its file offset: headers, region tables, log entries, metadata, BAT.

Made for damaged images: each structure is decoded on its own, and what is wrong is shown beside it. If the
log is dirty and can be replayed, the regions are shown a second time as they are after replay. Nothing is
written, and no second file is opened.

Exit code: 0 if the file could be dumped, however damaged (with --strict only if no rule is broken), else 1.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from vhdx.cli.options import add_image, add_json, add_opening
from vhdx.cli.output import UNRELIABLE, escape, finding_json, print_fields, warn_unreliable
from vhdx.ops.dump import dump

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

    from vhdx.cli.options import Parser
    from vhdx.ops.dump import Structure


def add_options(parser: Parser) -> None:
    """Take the image."""
    add_image(parser)
    add_json(parser)
    add_opening(parser)


def run(options: argparse.Namespace) -> int:
    """Print structure after structure."""
    if options.force_share:
        warn_unreliable(options.image)
    counter = _Counter(dump(options.image, lock=not options.force_share))
    if options.json:
        _print_json(counter, options)
    else:
        for structure in counter:
            _print_structure(structure)
        if options.force_share:
            print(f"not reliable: {UNRELIABLE}")
    return 1 if options.strict and counter.faulty else 0


class _Counter:
    """Passes structures on and counts the faulty ones."""

    def __init__(self, structures: Iterable[Structure]) -> None:
        self.faulty = 0
        self._structures = structures

    def __iter__(self) -> Iterator[Structure]:
        for structure in self._structures:
            self.faulty += bool(structure.findings or structure.error)
            yield structure


def _print_json(structures: Iterable[Structure], options: argparse.Namespace) -> None:
    """Print one object whose structures are printed as they come."""
    write = sys.stdout.write
    is_first = True
    for structure in structures:
        if is_first:
            reliable = json.dumps(not options.force_share)
            write(f'{{\n    "filename": {json.dumps(options.image)},\n    "format": "vhdx",\n')
            write(f'    "reliable": {reliable},\n    "structures": [')
        write(f"{'' if is_first else ','}\n        {json.dumps(_structure_json(structure))}")
        is_first = False
    write("\n    ]\n}\n")


def _structure_json(structure: Structure) -> dict[str, Any]:
    return {
        "structure": structure.name,
        "file-offset": structure.file_offset,
        "length": structure.length,
        "fields": structure.fields,
        "entries": list(structure.entries),
        "findings": [finding_json(finding) for finding in structure.findings],
        "error": structure.error,
    }


def _print_structure(structure: Structure) -> None:
    print(f"{structure.file_offset:#014x} {escape(structure.name)} ({structure.length} bytes)")
    print_fields(((name, _value(name, value)) for name, value in structure.fields.items()), "    ")
    for entry in structure.entries:
        print("    - " + ", ".join(f"{name} {_value(name, value)}" for name, value in entry.items()))
    for finding in structure.findings:
        print(f"    ! {escape(str(finding))}")
    if structure.error is not None:
        print(f"    ! error: {escape(structure.error)}")


def _value(name: str, value: object) -> str:
    """Spell a value: places and checksums in hexadecimal, text from the file in quotes."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:#x}" if name.endswith(("offset", "position", "tail", "checksum")) else str(value)
    if isinstance(value, dict):
        return ", ".join(f"{_value(key, number)} {key}" for key, number in value.items()) or "none"
    text = escape(str(value))
    return f'"{text}"' if name in {"signature", "creator", "key", "value"} else text
