"""The BAT of a file: how many blocks are in which state, and the first entries that are not zero."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

from vhdx.engine.bat_table import BatTable
from vhdx.engine.block_rules import BlockRules
from vhdx.engine.page_cache import PageCache
from vhdx.findings import Finding
from vhdx.format.bat import STATE_MASK, PayloadState, entry_file_offset, entry_state
from vhdx.format.constants import BAT_ENTRY_SIZE
from vhdx.format.metadata import ALWAYS_NEEDED, KNOWN_ITEMS, DiskParameters
from vhdx.ops.dump.structure import Structure, collect
from vhdx.ops.info import STATE_NAMES
from vhdx.rules import RuleCode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from uuid import UUID

    from vhdx.format.region_table import Region
    from vhdx.storage.base import ByteStore

MAX_ENTRIES_SHOWN: Final = 32


def dump_bat(
    store: ByteStore, region: Region, items: Mapping[UUID, bytes], file_size: int, suffix: str
) -> Iterator[Structure]:
    """Dump the BAT, if the metadata items allow to lay it out. Raises: OSError."""
    bare = Structure(f"BAT{suffix}", region.file_offset, region.length, {})
    parameters, error = _parameters(items, region.file_offset)
    if parameters is None:
        yield bare._replace(error=f"cannot be laid out: {error}")
        return
    geometry = parameters.geometry
    fields: dict[str, Any] = {
        "entry-count": geometry.entry_count,
        "block-count": geometry.block_count,
        "chunk-ratio": geometry.chunk_ratio,
    }
    if geometry.bat_size > region.length:
        found, expected = f"{region.length} bytes", f">= {geometry.bat_size}"
        too_small = Finding(RuleCode.BAT_TOO_SMALL, "BAT region", region.file_offset, found, expected)
        yield bare._replace(fields=fields, findings=(too_small,))
        return
    if region.file_offset % BAT_ENTRY_SIZE:
        yield bare._replace(fields=fields, error="begins in the middle of an entry")
        return
    bat = BatTable(PageCache(store), region, geometry)
    counts = bat.count_states()
    fields["blocks"] = {name: counts[state] for state, name in STATE_NAMES.items() if counts[state]}
    rules = BlockRules(geometry, region.file_offset, file_size, ())
    entries: list[dict[str, Any]] = []
    findings: list[Finding] = []
    for index, entry in _first_entries(bat):
        described, broken = _entry(rules, index, entry)
        entries.append(described)
        findings += broken
    yield bare._replace(fields=fields, entries=tuple(entries), findings=tuple(findings))


def _parameters(items: Mapping[UUID, bytes], file_offset: int) -> tuple[DiskParameters | None, str]:
    """What the items say of the disk, or why they say nothing."""
    missing = [
        KNOWN_ITEMS[item_id].name
        for item_id in ALWAYS_NEEDED
        if len(items.get(item_id, b"")) != KNOWN_ITEMS[item_id].length
    ]
    if missing:
        return None, f"no {', no '.join(missing)}"
    offsets = dict.fromkeys(ALWAYS_NEEDED, file_offset)
    parameters, findings = collect(lambda report: DiskParameters.decode(items, offsets, report.breach))
    return parameters, str(findings[-1]) if parameters is None else ""


def _first_entries(bat: BatTable) -> Iterator[tuple[int, int]]:
    """Index and value of the first entries that are not zero."""
    shown = 0
    for piece in bat.slices():
        if piece.data is None or piece.data.count(0) == len(piece.data):
            continue
        first = piece.first_chunk * (bat.geometry.chunk_ratio + 1)
        for index, (entry,) in enumerate(struct.iter_unpack("<Q", piece.data), first):
            if entry:
                yield index, entry
                shown += 1
                if shown == MAX_ENTRIES_SHOWN:
                    return


def _entry(rules: BlockRules, index: int, entry: int) -> tuple[dict[str, Any], list[Finding]]:
    chunk, block = rules.geometry.locate_entry(index)
    described: dict[str, Any]
    if block is None:
        described = {"index": index, "bitmap-of-chunk": chunk, "state": entry & STATE_MASK}
        findings = list(rules.bitmap_findings(chunk, entry))
    else:
        described = {"index": index, "block": block, "state": STATE_NAMES[PayloadState(entry_state(entry))]}
        is_inside = block < rules.geometry.block_count
        findings = list(rules.payload_findings(block, entry)) if is_inside else []
    described["file-offset"] = entry_file_offset(entry)
    return described, findings
