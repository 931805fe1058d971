"""Structures of real images, made by Windows, QEMU and disk2vhd."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.units import GIB, MIB
from vhdx.format.checksum import structure_checksum
from vhdx.format.constants import HEADER_FILE_OFFSETS, REGION_TABLE_FILE_OFFSETS
from vhdx.format.file_identifier import FileIdentifier
from vhdx.format.header import Header
from vhdx.format.log import LogEntryHeader, header_fault
from vhdx.format.metadata import DiskParameters, MetadataTable, check_table
from vhdx.format.region_table import Regions, RegionTable, check_regions
from vhdx.report import Report
from vhdx.testing import ReferenceImage

pytestmark = pytest.mark.samples

EXPECTED = {
    # creator, virtual size, block size, physical sector size, headers identical
    "btrfs.vhdx": ("Microsoft Windows 10.0.15063.0", GIB, 32 * MIB, 4096, False),
    "iotest-dirtylog-10G-4M.vhdx": ("QEMU v1.6.50", 10 * GIB, MIB, 512, False),
    "iotest-dynamic-1G.vhdx": ("Microsoft Windows 6.2.9200.16384", GIB, 32 * MIB, 4096, False),
    "swap.vhdx": ("Microsoft Windows 10.0.14393.0", 10 * GIB, 32 * MIB, 4096, False),
    "test-disk2vhd.vhdx": ("d2v", 256 * MIB, 2 * MIB, 512, True),
    "vhdx-log-replay.vhdx": ("Microsoft Windows 10.0.15063.0", GIB, 32 * MIB, 4096, False),
}


def headers_of(data: bytes) -> list[Header]:
    report = Report(strict=True)
    found = [Header.decode(data[at : at + 4096], "header", at, report.breach) for at in HEADER_FILE_OFFSETS]
    assert report.findings == []
    return [header for header in found if header is not None]


def regions_of(data: bytes, header: Header) -> Regions:
    report = Report(strict=True)
    tables = [
        RegionTable.decode(data[at : at + 65536], "region table", at, report.breach)
        for at in REGION_TABLE_FILE_OFFSETS
    ]
    assert tables[0] is not None
    assert tables[0] == tables[1]
    log = (header.log_offset, header.log_length)
    regions = check_regions(tables[0], REGION_TABLE_FILE_OFFSETS[0], log, len(data), report.breach)
    assert report.findings == []
    return regions


def log_entries_of(data: bytes, header: Header) -> Iterator[tuple[int, bytes]]:
    """Entries of any session whose checksum is right, by position."""
    log = data[header.log_offset : header.log_offset + header.log_length]
    for position in range(0, len(log), 4096):
        if header_fault(log[position : position + 64], None, len(log)) is None:
            length = LogEntryHeader.decode(log[position : position + 64]).entry_length
            entry = (log + log)[position : position + length]
            if structure_checksum(entry) == LogEntryHeader.decode(entry).checksum:
                yield position, entry


def test_real_headers_are_valid(sample: Path) -> None:
    data = sample.read_bytes()
    first, second = headers_of(data)
    assert (first == second) is EXPECTED[sample.name][4]
    assert (first.log_length, first.log_offset) == (MIB, MIB)


def test_real_metadata_is_sound(sample: Path) -> None:
    data = sample.read_bytes()
    creator, size, block_size, physical_sector_size, _ = EXPECTED[sample.name]
    region = regions_of(data, headers_of(data)[0]).metadata
    content = data[region.file_offset : region.end]
    report = Report(strict=True)
    table = MetadataTable.decode(content, region.file_offset, report.breach)
    known = check_table(table, region.file_offset, region.length, report.breach)
    items = {item_id: content[entry.offset : entry.end] for item_id, entry in known.items()}
    offsets = {item_id: region.file_offset + entry.offset for item_id, entry in known.items()}
    parameters = DiskParameters.decode(items, offsets, report.breach)
    assert report.findings == []
    assert FileIdentifier.decode(data[:520]).creator == creator
    assert (parameters.virtual_size, parameters.block_size) == (size, block_size)
    assert (parameters.logical_sector_size, parameters.physical_sector_size) == (512, physical_sector_size)
    assert not parameters.has_parent


def test_disk2vhd_header_has_its_published_checksum(disk2vhd_sample: Path) -> None:
    assert structure_checksum(disk2vhd_sample.read_bytes()[0x10000:0x11000]) == 0x0F5CF62B


def test_windows_dirty_log_holds_the_published_run(windows_dirty_sample: Path) -> None:
    data = windows_dirty_sample.read_bytes()
    header = max(headers_of(data), key=lambda header: header.sequence_number)
    entries = {
        position: LogEntryHeader.decode(entry)
        for position, entry in log_entries_of(data, header)
        if LogEntryHeader.decode(entry).log_guid == header.log_guid
    }
    assert list(entries) == [0x0, 0x1000, 0x3000, 0x5000, 0x7000]
    assert entries[0x7000].tail == 0x5000


def test_windows_log_replays_to_the_published_bat(windows_dirty_sample: Path) -> None:
    image = ReferenceImage(windows_dirty_sample.read_bytes())
    states = {index: image.entry(index) for index in range(32) if image.entry(index) != (0, 0)}
    assert states == {0: (6, 4 * MIB), 3: (2, 0), 9: (2, 0), 31: (2, 0)}


def test_qemu_log_changes_exactly_one_bat_entry(qemu_dirty_sample: Path) -> None:
    data = qemu_dirty_sample.read_bytes()
    image = ReferenceImage(data)
    on_disk = {
        index: int.from_bytes(data[image.bat_offset + 8 * index : image.bat_offset + 8 * index + 8], "little")
        for index in range(2562)
    }
    replayed = {index: image.entry(index) for index in on_disk}
    changed = {index for index, entry in on_disk.items() if (entry & 7, entry >> 20 << 20) != replayed[index]}
    assert changed == {17}
    assert on_disk[17] == 0
    assert replayed[17] == (6, 29 * MIB)


def test_clean_images_hold_sound_entries_of_past_sessions(swap_sample: Path) -> None:
    data = swap_sample.read_bytes()
    header = max(headers_of(data), key=lambda header: header.sequence_number)
    assert not header.log_in_use
    assert list(log_entries_of(data, header))
