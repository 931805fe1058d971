"""Opening a file: read and check every structure, in the order that the format demands ([MS-VHDX] 2.3.3).

identifier -> headers -> log (replayed in memory) -> region tables -> metadata -> BAT's place -> locator.
Nothing after the log is read but through the replay's overlay, because replay may rewrite all of it. No step
writes, and no step does work that a field of the file sets without a limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from vhdx._text import counted, spelled
from vhdx.engine.block_rules import BlockRules
from vhdx.engine.header_pair import HeaderPair, read_header_pair
from vhdx.errors import LogReplayRequiredError
from vhdx.format.constants import (
    FILE_SIGNATURE,
    HEADER_FILE_OFFSETS,
    HEADER_SECTION_SIZE,
    REGION_TABLE_FILE_OFFSETS,
)
from vhdx.format.file_identifier import IDENTIFIER_SIZE, FileIdentifier
from vhdx.format.geometry import Geometry
from vhdx.format.guids import PARENT_LOCATOR
from vhdx.format.metadata import (
    ALWAYS_NEEDED,
    METADATA_TABLE_SIZE,
    DiskParameters,
    MetadataEntry,
    MetadataTable,
    check_table,
)
from vhdx.format.parent_locator import ParentLocator
from vhdx.format.recognise import PROBE_SIZE, recognise
from vhdx.format.region_table import (
    REGION_TABLE_SIZE,
    Region,
    Regions,
    RegionTable,
    check_regions,
)
from vhdx.report import Breach, Report
from vhdx.rules import RuleCode
from vhdx.storage.base import ByteStore, both_ends, pread

if TYPE_CHECKING:
    from uuid import UUID

    from vhdx.engine.log_replay import Replay

ReplayMode = Literal["auto", "refuse", "ignore"]


@dataclass(frozen=True, slots=True)
class Opened:
    """Everything that is known of a file once it has been opened.

    Nothing in it changes, except that `block_rules` are told when a writer has made the file longer.
    """

    store: ByteStore
    """The file as it is to be read: the replay's overlay if the log is dirty."""
    file_size: int
    """Bytes, after replay."""
    identifier: FileIdentifier
    headers: HeaderPair
    replay: Replay | None
    region_tables: tuple[RegionTable | None, RegionTable | None]
    regions: Regions
    metadata: MetadataTable
    parameters: DiskParameters
    geometry: Geometry
    locator: ParentLocator | None
    block_rules: BlockRules


def open_image(store: ByteStore, report: Report, replay: ReplayMode = "auto") -> Opened:
    """Read and check everything but BAT entries and sector bitmaps.

    Raises: FormatError, LogReplayRequiredError, OSError.
    """
    size = store.size()
    identifier = read_identifier(store, size, report.breach)
    headers = read_header_pair(store, size, report)
    replayed = _replay(store, headers, size, report, replay)
    if replayed is not None:
        store, size = replayed.store, replayed.file_size
    log = (headers.current.log_offset, headers.current.log_length)
    tables, table_offset, table = read_region_tables(store, report)
    regions = check_regions(table, table_offset, log, size, report.breach)
    metadata, known = read_metadata_table(store, regions.metadata, report.breach)
    parameters = _read_parameters(store, regions.metadata, known, report.breach)
    geometry = parameters.geometry
    _check_bat_size(regions.bat, geometry, report.breach)
    structures = [(region.file_offset, region.end, region.name) for region in regions.all if region.length]
    if log[1]:
        structures.append((log[0], log[0] + log[1], "log"))
    return Opened(
        store=store,
        file_size=size,
        identifier=identifier,
        headers=headers,
        replay=replayed,
        region_tables=tables,
        regions=regions,
        metadata=metadata,
        parameters=parameters,
        geometry=geometry,
        locator=_read_locator(store, regions.metadata, known, parameters, report.breach),
        block_rules=BlockRules(geometry, regions.bat.file_offset, size, structures),
    )


def read_identifier(store: ByteStore, file_size: int, breach: Breach) -> FileIdentifier:
    """Read the identifier. Raises: FormatError through `breach`; OSError."""
    data = pread(store, IDENTIFIER_SIZE, 0)
    if data[: len(FILE_SIGNATURE)] != FILE_SIGNATURE:
        found = spelled(data[: len(FILE_SIGNATURE)])
        hint = f"it is {recognise(*both_ends(store, PROBE_SIZE))}"
        breach(RuleCode.FILE_SIGNATURE, "file identifier", 0, found=found, expected="'vhdxfile'", hint=hint)
    if file_size < HEADER_SECTION_SIZE:
        found = f"{file_size} bytes"
        breach(RuleCode.FILE_TRUNCATED, "file", None, found=found, expected=f">= {HEADER_SECTION_SIZE}")
    return FileIdentifier.decode(data)


def _replay(
    store: ByteStore, headers: HeaderPair, file_size: int, report: Report, mode: ReplayMode
) -> Replay | None:
    header = headers.current
    if not header.log_in_use:
        return None
    where = HEADER_FILE_OFFSETS[headers.current_index]
    if mode == "refuse":
        message = f"{store.name}: the log holds changes that must be replayed first, and replay was refused"
        raise LogReplayRequiredError(message)
    if mode == "ignore":
        report.breach(
            RuleCode.LOG_DIRTY, "log", where, found="a LogGuid", hint="the log was ignored as asked"
        )
        return None
    from vhdx.engine.log_replay import replay_in_memory

    replay = replay_in_memory(store, header, file_size, report.breach)
    found = f"{counted(len(replay.entries), 'entry', 'entries')} to replay"
    report.breach(RuleCode.LOG_DIRTY, "log", where, found=found)
    return replay


def read_region_tables(
    store: ByteStore, report: Report
) -> tuple[tuple[RegionTable | None, RegionTable | None], int, RegionTable]:
    """Read both copies; return them, and file offset and content of the one that counts.

    Raises: FormatError through `report`; OSError.
    """
    breach = report.breach
    with report.of_two_copies() as copies:
        first, second = (
            RegionTable.decode(
                pread(store, REGION_TABLE_SIZE, offset), f"region table {index + 1}", offset, copies.breach
            )
            for index, offset in enumerate(REGION_TABLE_FILE_OFFSETS)
        )
    table = first if first is not None else second
    if table is None:
        breach(RuleCode.REGION_TABLE_NONE_VALID, "region tables", REGION_TABLE_FILE_OFFSETS[0])
    assert table is not None
    if first is not None and second is not None and first != second:
        breach(RuleCode.REGION_TABLES_DIFFER, "region tables", REGION_TABLE_FILE_OFFSETS[1])
    return (first, second), REGION_TABLE_FILE_OFFSETS[0 if first is not None else 1], table


def read_metadata_table(
    store: ByteStore, region: Region, breach: Breach
) -> tuple[MetadataTable, dict[UUID, MetadataEntry]]:
    """Read the metadata table; return it and its known items.

    Raises: FormatError through `breach`; OSError.
    """
    data = pread(store, METADATA_TABLE_SIZE, region.file_offset)
    table = MetadataTable.decode(data, region.file_offset, breach)
    return table, check_table(table, region.file_offset, region.length, breach)


def read_item(store: ByteStore, region: Region, entry: MetadataEntry) -> bytes:
    """Read a metadata item's content; its place has been checked. Raises: OSError."""
    return pread(store, entry.length, region.file_offset + entry.offset)


def _read_parameters(
    store: ByteStore, region: Region, known: dict[UUID, MetadataEntry], breach: Breach
) -> DiskParameters:
    items = {item_id: read_item(store, region, known[item_id]) for item_id in ALWAYS_NEEDED}
    file_offsets = {item_id: region.file_offset + known[item_id].offset for item_id in ALWAYS_NEEDED}
    return DiskParameters.decode(items, file_offsets, breach)


def _check_bat_size(bat: Region, geometry: Geometry, breach: Breach) -> None:
    if geometry.bat_size > bat.length:
        found, expected = f"{bat.length} bytes", f">= {geometry.bat_size} for {geometry.entry_count} entries"
        breach(RuleCode.BAT_TOO_SMALL, "BAT region", bat.file_offset, found=found, expected=expected)


def _read_locator(
    store: ByteStore,
    region: Region,
    known: dict[UUID, MetadataEntry],
    parameters: DiskParameters,
    breach: Breach,
) -> ParentLocator | None:
    entry = known.get(PARENT_LOCATOR)
    if not parameters.has_parent:
        if entry is not None:
            breach(RuleCode.LOCATOR_UNEXPECTED, "parent locator", region.file_offset + entry.offset)
        return None
    if entry is None:
        breach(RuleCode.LOCATOR_MISSING, "metadata table", region.file_offset)
    assert entry is not None
    return ParentLocator.decode(read_item(store, region, entry), region.file_offset + entry.offset, breach)
