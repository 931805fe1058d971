"""Which partitions a disk has; and that no table, however made, does harm."""

import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vhdx
from support.programs import need, run
from support.tables import Gpt, GptSlot, MemoryDisk, Slot, boot_record, disk_of
from support.units import MIB
from vhdx.disks.raw import RawDevice
from vhdx.guest.partitions import PartitionTable, read_partitions
from vhdx.testing import ImageBuilder


def places(table: PartitionTable) -> dict[int, tuple[int, int]]:
    """Number -> first sector and length in sectors of the table's own size."""
    size = table.sector_size
    return {part.number: (part.offset // size, part.length // size) for part in table.partitions}


def only_warning(table: PartitionTable) -> str:
    (warning,) = table.warnings
    return warning


# -- MBR -----------------------------------------------------------------------------------------------------


def test_primary_partitions_have_the_number_of_their_place() -> None:
    table = read_partitions(disk_of({0: boot_record({0: Slot(0x83, 64, 100), 2: Slot(7, 300, 50, 0x80)})}))
    assert (table.kind, table.warnings) == ("mbr", ())
    assert places(table) == {1: (64, 100), 3: (300, 50)}
    assert [part.type for part in table.partitions] == ["0x83", "0x07"]


def test_logical_partitions_count_from_five() -> None:
    table = read_partitions(
        disk_of(
            {
                0: boot_record({0: Slot(0x83, 10, 10), 1: Slot(0x05, 100, 1000)}),
                100: boot_record({0: Slot(0x83, 1, 20), 1: Slot(0x05, 200, 100)}),
                300: boot_record({0: Slot(0x83, 1, 30), 1: Slot(0x0F, 400, 100)}),
                500: boot_record({0: Slot(0x82, 2, 40)}),
            }
        )
    )
    assert table.warnings == ()
    assert places(table) == {1: (10, 10), 5: (101, 20), 6: (301, 30), 7: (502, 40)}


def test_empty_link_of_a_chain_takes_no_number() -> None:
    table = read_partitions(
        disk_of(
            {
                0: boot_record({0: Slot(0x05, 100, 1000)}),
                100: boot_record({1: Slot(0x05, 200, 100)}),
                300: boot_record({0: Slot(0x83, 1, 30)}),
            }
        )
    )
    assert places(table) == {5: (301, 30)}


def test_remains_in_the_last_two_entries_of_a_link_count_only_inside_the_extended_partition() -> None:
    link = boot_record({0: Slot(0x83, 1, 20), 2: Slot(0x83, 50, 20), 3: Slot(0x83, 900, 500)})
    table = read_partitions(disk_of({0: boot_record({0: Slot(0x05, 100, 1000)}), 100: link}))
    assert places(table) == {5: (101, 20), 6: (150, 20)}


def test_chain_that_comes_back_to_itself_ends_there() -> None:
    table = read_partitions(
        disk_of(
            {
                0: boot_record({0: Slot(0x05, 100, 1000)}),
                100: boot_record({0: Slot(0x83, 1, 20), 1: Slot(0x05, 200, 100)}),
                300: boot_record({0: Slot(0x83, 1, 20), 1: Slot(0x05, 200, 100)}),
            }
        )
    )
    assert places(table) == {5: (101, 20), 6: (301, 20)}
    assert "comes back to sector 300" in only_warning(table)


def test_chain_of_a_thousand_links_is_cut_off() -> None:
    sectors = {0: boot_record({0: Slot(0x05, 100, 3000)})}
    for index in range(1000):
        sectors[100 + 2 * index] = boot_record({0: Slot(0x83, 1, 1), 1: Slot(0x05, 2 * index + 2, 2)})
    table = read_partitions(disk_of(sectors))
    assert len(table.partitions) == 256
    assert "more than 256 links" in only_warning(table)


@pytest.mark.parametrize("first", [100, 1 << 31, 0xFFFFFFFF])
def test_chain_without_a_first_link_is_told(first: int) -> None:
    table = read_partitions(disk_of({0: boot_record({0: Slot(0x05, first, 1000)})}))
    assert table.partitions == ()
    assert f"breaks at sector {first}" in only_warning(table)


def test_partition_past_the_end_is_left_out_and_the_others_stay() -> None:
    slots = {0: Slot(0x83, 64, 100), 1: Slot(0x83, 4000, 97), 2: Slot(0x83, 0xFFFFFFFF, 0xFFFFFFFF)}
    table = read_partitions(disk_of({0: boot_record(slots)}))
    assert places(table) == {1: (64, 100)}
    first, second = table.warnings
    assert first.startswith("partition 2 (97 sectors from sector 4000) is left out: the disk has only 4096")
    assert second.startswith("partition 3")


def test_partition_that_ends_with_the_disk_is_whole() -> None:
    table = read_partitions(disk_of({0: boot_record({0: Slot(0x83, 4000, 96)})}))
    assert places(table) == {1: (4000, 96)}


def test_overlapping_partition_is_left_out() -> None:
    slots = {0: Slot(0x83, 64, 100), 1: Slot(0x83, 163, 10), 2: Slot(0x83, 10, 1000), 3: Slot(7, 164, 1)}
    table = read_partitions(disk_of({0: boot_record(slots)}))
    assert places(table) == {1: (64, 100), 4: (164, 1)}
    assert ["overlaps partition 1" in warning for warning in table.warnings] == [True, True]


def test_sectors_of_4096_bytes_are_the_unit_of_an_mbr_too() -> None:
    disk = disk_of({0: boot_record({0: Slot(0x83, 10, 20)})}, 64, 4096)
    (partition,) = read_partitions(disk).partitions
    assert (partition.offset, partition.length) == (40960, 81920)


# -- GPT -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sector_size", [512, 4096])
@pytest.mark.parametrize("entry_size", [128, 256, 4096])
def test_gpt_partitions_have_the_number_of_their_entry(sector_size: int, entry_size: int) -> None:
    gpt = Gpt(
        {0: GptSlot(1200, 1299, "EFI"), 6: GptSlot(1100, 1199, "ро́от")},
        sector_size=sector_size,
        entry_size=entry_size,
    )
    table = read_partitions(gpt.disk())
    assert (table.kind, table.warnings, table.sector_size) == ("gpt", (), sector_size)
    assert places(table) == {1: (1200, 100), 7: (1100, 100)}
    assert [part.name for part in table.partitions] == ["EFI", "ро́от"]
    assert table.partitions[0].type == "0fc63daf-8483-4772-8e79-3d69d8477de4"


@pytest.mark.parametrize("damaged", [1, 2])
def test_backup_serves_where_the_first_copy_is_damaged(damaged: int) -> None:
    table = read_partitions(Gpt({0: GptSlot(100, 199)}).disk([damaged]))
    assert places(table) == {1: (100, 100)}
    assert "the backup at the disk's end is used" in only_warning(table)


@pytest.mark.parametrize("place", [8, 16, 40, 56, 80])
def test_backup_serves_where_one_bit_of_the_first_header_differs(place: int) -> None:
    disk = Gpt({0: GptSlot(100, 199)}).disk()
    data = bytearray(disk.pread(disk.size, 0))
    data[512 + place] ^= 1
    table = read_partitions(MemoryDisk(bytes(data)))
    assert places(table) == {1: (100, 100)}
    assert "its checksum is wrong; the backup at the disk's end is used" in only_warning(table)


@pytest.mark.parametrize("damaged", [[1, 4095], [2, 4063], [1, 4063]])
def test_no_partition_is_guessed_where_both_copies_are_damaged(damaged: list[int]) -> None:
    table = read_partitions(Gpt({0: GptSlot(100, 199)}).disk(damaged))
    assert (table.kind, table.partitions) == ("gpt", ())
    assert "no partition can be told" in only_warning(table)


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("entry_size", 0, "an entry of 0 bytes"),
        ("entry_size", 64, "an entry of 64 bytes"),
        ("entry_size", 192, "an entry of 192 bytes"),
        ("entry_size", 8192, "an entry of 8192 bytes"),
        ("count", 0xFFFFFFFF, "4294967295 entries"),
        ("count", 4097, "4097 entries"),
        ("header_size", 91, "a size of 91 bytes"),
        ("header_size", 513, "a size of 513 bytes"),
    ],
)
def test_header_with_good_checksums_and_bad_numbers_is_not_believed(
    field: str, value: int, complaint: str
) -> None:
    gpt = Gpt({0: GptSlot(100, 199)})
    setattr(gpt, field, value)
    table = read_partitions(gpt.disk())
    assert table.partitions == ()
    assert complaint in only_warning(table)


def test_header_that_belongs_elsewhere_is_not_believed() -> None:
    gpt = Gpt({0: GptSlot(100, 199)})
    sectors = gpt.sectors_of()
    sectors[1] = sectors[4095]
    table = read_partitions(disk_of(sectors))
    assert places(table) == {1: (100, 100)}
    assert "it says that it stands in sector 4095" in only_warning(table)


@pytest.mark.parametrize(
    ("slot", "complaint"),
    [
        (GptSlot(300, 299), "it ends before it begins"),
        (GptSlot(300, 0), "it ends before it begins"),
        (GptSlot(4000, 4096), "the disk has only 4096 sectors"),
        (GptSlot(1 << 63, (1 << 64) - 1), "the disk has only 4096 sectors"),
        (GptSlot(150, 250), "it overlaps partition 1"),
        (GptSlot(0, 50), "it begins in sector 0, in the table itself"),
        (GptSlot(1, 50), "it begins in sector 1, in the table itself"),
    ],
)
def test_bad_entry_is_left_out_and_the_others_stay(slot: GptSlot, complaint: str) -> None:
    table = read_partitions(Gpt({0: GptSlot(100, 199), 1: slot, 2: GptSlot(400, 499)}).disk())
    assert places(table) == {1: (100, 100), 3: (400, 100)}
    assert complaint in only_warning(table)


def test_gpt_without_a_protective_mbr_is_read_with_a_warning() -> None:
    table = read_partitions(Gpt({0: GptSlot(100, 199)}).disk(protective=False))
    assert places(table) == {1: (100, 100)}
    assert "no protective MBR" in only_warning(table)


def test_remains_of_a_gpt_beside_a_plain_mbr_do_not_count() -> None:
    sectors = Gpt({0: GptSlot(100, 199)}).sectors_of()
    sectors[0] = boot_record({1: Slot(0x83, 500, 10)})
    table = read_partitions(disk_of(sectors))
    assert (table.kind, places(table)) == ("mbr", {2: (500, 10)})


def test_remains_of_a_gpt_behind_a_file_system_do_not_count() -> None:
    sectors = Gpt({0: GptSlot(100, 199)}).sectors_of(protective=False)
    del sectors[1]
    sectors[0] = b"XFSB"
    table = read_partitions(disk_of(sectors))
    assert (table.kind, table.content) == (None, "an XFS file system")


def test_gpt_for_other_sectors_is_read_and_the_difference_told() -> None:
    gpt = Gpt({0: GptSlot(100, 199)}, sectors=512, sector_size=4096)
    disk = gpt.disk()
    table = read_partitions(MemoryDisk(disk.pread(disk.size, 0), 512))
    assert places(table) == {1: (100, 100)}
    assert table.sector_size == 4096
    assert "--sector-size 4096" in only_warning(table)


def test_warnings_are_bounded() -> None:
    gpt = Gpt({index: GptSlot(300, 299) for index in range(128)})
    warnings = read_partitions(gpt.disk()).warnings
    assert len(warnings) == 65
    assert warnings[-1] == "64 further warnings of this table are not listed"


# -- disks without a table -------------------------------------------------------------------------------------

MARKS = [
    (0, b"\xeb\x52\x90NTFS    ", "an NTFS file system"),
    (0, b"\xeb\x76\x90EXFAT   ", "an exFAT file system"),
    (0, b"\0\0\0ReFS\0\0\0\0", "a ReFS file system"),
    (0, b"\xeb\x58\x90-FVE-FS-", "a BitLocker volume"),
    (54, b"FAT16   ", "a FAT file system"),
    (82, b"FAT32   ", "a FAT file system"),
    (0, b"XFSB", "an XFS file system"),
    (0, b"hsqs", "a squashfs file system"),
    (0, b"LUKS\xba\xbe", "a LUKS container"),
    (512, b"LABELONE", "an LVM physical volume"),
    (4086, b"SWAPSPACE2", "a Linux swap area"),
    (65526, b"SWAPSPACE2", "a Linux swap area"),
    (0x10040, b"_BHRfS_M", "a btrfs file system"),
    (0x8001, b"CD001", "an ISO 9660 file system"),
    (1080, b"\x53\xef", "an ext2 file system"),
    (1080, b"\x53\xef" + bytes(34) + b"\x04", "an ext3 file system"),
    (1080, b"\x53\xef" + bytes(38) + b"\x40", "an ext4 file system"),
]


@pytest.mark.parametrize(("offset", "mark", "content"), MARKS)
@pytest.mark.parametrize("boot_signature", [b"\0\0", b"\x55\xaa"])
def test_disk_that_is_itself_a_file_system_is_said_to_be_one(
    offset: int, mark: bytes, content: str, boot_signature: bytes
) -> None:
    data = bytearray(MIB)
    data[510:512] = boot_signature
    data[offset : offset + len(mark)] = mark
    table = read_partitions(MemoryDisk(bytes(data)))
    assert (table.kind, table.content, table.partitions, table.warnings) == (None, content, (), ())


def test_boot_code_where_the_table_would_be_is_no_table() -> None:
    data = bytearray(MIB)
    data[3:11] = b"NTFS    "
    data[446:510] = b"A disk read error occurred. Press Ctrl+Alt+Del to restart...    "
    data[510:512] = b"\x55\xaa"
    table = read_partitions(MemoryDisk(bytes(data)))
    assert (table.kind, table.content, table.warnings) == (None, "an NTFS file system", ())


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 4096, 65536])
def test_small_and_empty_disks_have_no_table(size: int) -> None:
    table = read_partitions(MemoryDisk(bytes(size)))
    assert (table.kind, table.content, table.partitions, table.warnings) == (None, None, (), ())


def test_disk_that_cannot_be_read_gives_a_warning() -> None:
    builder = ImageBuilder(name="parent")
    child = ImageBuilder.child_of(builder, name="child")
    with vhdx.open(child.build_store(), parents="none") as disk:
        table = read_partitions(disk)
    assert table.partitions == ()
    assert "the partition table cannot be read" in only_warning(table)


# -- hostile tables --------------------------------------------------------------------------------------------


def assert_harmless(disk: RawDevice) -> None:
    table = read_partitions(disk)
    end = 0
    for part in sorted(table.partitions, key=lambda part: part.offset):
        assert part.length > 0
        assert part.offset >= end
        end = part.offset + part.length
    assert end <= disk.size
    assert len({part.number for part in table.partitions}) == len(table.partitions) <= 4096


@given(st.binary(max_size=4096), st.sampled_from([512, 4096]), st.booleans())
def test_any_bytes_are_harmless(content: bytes, sector_size: int, signed: bool) -> None:
    data = bytearray(content.ljust(1024, b"\0"))
    if signed:
        data[510:512] = b"\x55\xaa"
    assert_harmless(MemoryDisk(bytes(data), sector_size))


slots = st.builds(
    Slot,
    st.sampled_from([0, 5, 7, 0x0F, 0x83, 0x85, 0xEE]),
    st.one_of(st.integers(0, 200), st.integers(0, 0xFFFFFFFF)),
    st.one_of(st.integers(0, 200), st.integers(0, 0xFFFFFFFF)),
    st.sampled_from([0, 0x80, 0x81]),
)
records = st.dictionaries(st.integers(0, 3), slots).map(boot_record)


@settings(max_examples=300)
@given(st.dictionaries(st.integers(1, 200), records, max_size=20), records)
def test_any_chain_is_harmless(sectors: dict[int, bytes], first: bytes) -> None:
    assert_harmless(disk_of({**sectors, 0: first}, 256))


gpt_numbers = st.one_of(st.integers(0, 4200), st.integers(0, (1 << 64) - 1))


@settings(max_examples=200)
@given(
    st.dictionaries(st.integers(0, 127), st.builds(GptSlot, gpt_numbers, gpt_numbers, st.text(max_size=30))),
    st.lists(st.tuples(st.integers(0, 512 * 6 - 1), st.integers(0, 255)), max_size=4),
    st.booleans(),
)
def test_any_gpt_is_harmless(
    entries: dict[int, GptSlot], wounds: list[tuple[int, int]], protective: bool
) -> None:
    disk = Gpt(entries).disk(protective=protective)
    data = bytearray(disk.pread(disk.size, 0))
    for place, value in wounds:
        data[place] = value
    assert_harmless(MemoryDisk(bytes(data)))


# -- tables of others ------------------------------------------------------------------------------------------


def sfdisk_places(path: Path) -> dict[int, tuple[int, int]]:
    """What sfdisk lists: number -> first sector, length."""
    listed = json.loads(run(need("sfdisk", "fdisk"), "--json", path))["partitiontable"]["partitions"]
    extended = {"5", "f", "85"}
    return {
        int(part["node"].removeprefix(str(path))): (part["start"], part["size"])
        for part in listed
        if part["type"] not in extended
    }


@pytest.mark.interop
@pytest.mark.parametrize(
    "script",
    [
        "label: dos\n,64M,83\n,64M,7,*\n",
        "label: dos\n,64M,83\n,,5\n,16M,83\n,16M,82\n,16M,83\n",
        "label: dos\n4 : start=2048, size=4096, type=83\n2 : start=8192, size=4096, type=c\n",
        "label: gpt\n,64M,U\n,32M,L\n,,S\n",
        "label: gpt\n7 : start=4096, size=4096\n3 : start=16384, size=4096, name=three\n",
    ],
)
def test_tables_of_sfdisk_are_read_as_sfdisk_reads_them(tmp_path: Path, script: str) -> None:
    path = tmp_path / "disk.raw"
    with path.open("wb") as file:
        file.truncate(256 * MIB)
    subprocess.run([need("sfdisk", "fdisk"), "-q", path], input=script, text=True, check=True)
    with RawDevice.open(path) as disk:
        table = read_partitions(disk)
    assert table.warnings == ()
    assert places(table) == sfdisk_places(path)


@pytest.mark.interop
def test_backup_of_sgdisk_serves_where_its_first_table_was_wiped(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    with path.open("wb") as file:
        file.truncate(256 * MIB)
    sgdisk = need("sgdisk", "gdisk")
    run(sgdisk, "-n", "1:0:+32M", "-c", "1:first", "-n", "9:0:0", "-t", "9:0700", path)
    expected = sfdisk_places(path)
    with path.open("r+b") as file:
        file.seek(512)
        file.write(bytes(33 * 512))
    with RawDevice.open(path) as disk:
        table = read_partitions(disk)
    assert places(table) == expected
    assert [part.name for part in table.partitions] == ["first", ""]
    assert "the backup at the disk's end is used" in only_warning(table)


@pytest.mark.interop
@pytest.mark.parametrize(
    ("maker", "package", "options", "content"),
    [
        ("mkfs.ext2", "e2fsprogs", ["-q", "-F"], "an ext2 file system"),
        ("mkfs.ext3", "e2fsprogs", ["-q", "-F"], "an ext3 file system"),
        ("mkfs.ext4", "e2fsprogs", ["-q", "-F"], "an ext4 file system"),
        ("mkfs.xfs", "xfsprogs", ["-q", "-f"], "an XFS file system"),
        ("mkntfs", "ntfs-3g", ["-q", "-F", "-f"], "an NTFS file system"),
        ("mkswap", "util-linux", [], "a Linux swap area"),
    ],
)
def test_file_systems_of_others_are_told(
    tmp_path: Path, maker: str, package: str, options: list[str], content: str
) -> None:
    path = tmp_path / "disk.raw"
    with path.open("wb") as file:
        file.truncate(320 * MIB)
    run(need(maker, package), *options, path)
    with RawDevice.open(path) as disk:
        table = read_partitions(disk)
    assert (table.kind, table.content, table.warnings) == (None, content, ())
