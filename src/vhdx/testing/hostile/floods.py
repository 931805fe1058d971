"""Mutations that make a file claim much: full tables, huge disks, long logs, paths that lead elsewhere."""

import struct
from typing import Final

from vhdx._units import GIB, KIB, MIB, TIB
from vhdx.format.guids import (
    BAT_REGION,
    FILE_PARAMETERS,
    METADATA_REGION,
    PARENT_LOCATOR,
    VIRTUAL_DISK_SIZE,
)
from vhdx.format.parent_locator import encode_strings
from vhdx.testing.hostile.canvas import Canvas
from vhdx.testing.hostile.values import bat_entry, some_offset
from vhdx.testing.image.log_entries import LOG_GUID

HOSTILE_PATHS: Final = (
    "..\\..\\etc\\passwd",
    "..\\..\\..\\..\\..\\..\\etc\\hostname",
    "/etc/passwd",
    "C:\\Windows\\System32\\config\\SAM",
    "\\\\server\\share\\parent.vhdx",
    "\\\\.\\PhysicalDrive0",
    "\\\\?\\GLOBALROOT\\Device\\HarddiskVolume1",
    "file:///etc/passwd",
    "parent.vhdx:stream",
    ".",
    "..",
    "\\",
    "CON",
    "\ud800.vhdx",
    "\udcff.vhdx",
    "x" * 300,
    "a\nb",
    "~root",
    "$HOME",
    "%SystemRoot%",
    " ",
    "dev\\full",
)
_FILLS: Final = (16, 256, 8192, 8192, 1 << 17)


def fill_bat(canvas: Canvas) -> None:
    """Fill the BAT with one entry, or with entries that go on from one another."""
    base, length = canvas.anatomy.bat
    count = min(length // 8, canvas.chance.choice(_FILLS))
    old = int.from_bytes(canvas.read(base, 8), "little")
    entry = int.from_bytes(bat_entry(canvas, old), "little")
    step = canvas.chance.choice((0, 0, MIB, 256 * MIB))
    if step:
        values = struct.pack(f"<{count}Q", *((entry + step * index) % (1 << 64) for index in range(count)))
    else:
        values = struct.pack("<Q", entry) * count
    canvas.write(base, values)
    canvas.note(f"{count} BAT entries from {entry:#x} on, step {step:#x}")


def enlarge_disk(canvas: Canvas) -> None:
    """Make the disk as large as its BAT can name, or larger, with blocks of any size."""
    chance = canvas.chance
    block_size = chance.choice((1, 2, 32, 256)) * MIB
    length = canvas.anatomy.bat[1]
    if chance.random() < 0.3:
        length = chance.choice((16, 64, 513)) * MIB
        # A longer BAT needs free space after it: the old one is left behind, and the file grows.
        offset = max(canvas.store.size() // MIB * MIB + MIB, GIB)
        canvas.store.truncate(max(canvas.store.size(), offset + length))
        _set_region(canvas, BAT_REGION.bytes_le, offset, length)
        canvas.write(offset, canvas.read(canvas.anatomy.bat[0], 64 * KIB))
    virtual_size = min(64 * TIB, length // 8 * block_size // chance.choice((1, 2, 64)))
    _set_item(canvas, FILE_PARAMETERS.bytes_le, struct.pack("<I", block_size))
    _set_item(canvas, VIRTUAL_DISK_SIZE.bytes_le, struct.pack("<Q", virtual_size))
    canvas.note(f"virtual size {virtual_size:#x}, block size {block_size:#x}, BAT region {length:#x}")


def _set_item(canvas: Canvas, item_id: bytes, data: bytes) -> None:
    if item_id in canvas.anatomy.items:
        canvas.write(canvas.anatomy.items[item_id][1], data)


def _set_region(canvas: Canvas, guid: bytes, file_offset: int, length: int) -> None:
    for field in canvas.anatomy.fields["region table"]:
        if field.name == "Guid" and canvas.read(field.file_offset, 16) == guid:
            canvas.write(field.file_offset + 16, struct.pack("<QI", file_offset, length % (1 << 32)))


def move_region(canvas: Canvas) -> None:
    """Say that a region lies elsewhere, or is longer."""
    guid = canvas.chance.choice((BAT_REGION, METADATA_REGION))
    offset, length = some_offset(canvas), canvas.chance.choice((MIB, 2 * MIB, 64 * MIB, GIB, 0xFFF00000))
    _set_region(canvas, guid.bytes_le, offset // MIB * MIB, length)
    canvas.note(f"region {guid} at {offset:#x}, length {length:#x}")


def rewrite_locator(canvas: Canvas) -> None:
    """Point the parent locator somewhere else."""
    if PARENT_LOCATOR.bytes_le not in canvas.anatomy.items:
        move_region(canvas)
        return
    entry, content, _ = canvas.anatomy.items[PARENT_LOCATOR.bytes_le]
    chance = canvas.chance
    strings = {"parent_linkage": f"{{{'0' * 8}-0000-0000-0000-{'0' * 12}}}"}
    for key in chance.sample(("relative_path", "volume_path", "absolute_win32_path", "other"), 2):
        strings[key] = chance.choice(HOSTILE_PATHS)
    if chance.random() < 0.5:
        strings |= {str(number): "x" for number in range(chance.choice((3, 250, 300)))}
    data = bytearray(encode_strings(strings))
    if chance.random() < 0.3:  # Two entries with one key: the second pair's key becomes that of the third.
        data[32:36], data[40:42] = data[44:48], data[52:54]
    canvas.write(content, bytes(data))
    canvas.write(entry + 20, struct.pack("<I", len(data)))
    canvas.note(f"parent locator {list(strings.values())[:3]!a}")


def crowd_metadata(canvas: Canvas) -> None:
    """Fill the metadata table with entries, alike or not."""
    base, chance = canvas.anatomy.metadata[0], canvas.chance
    count = chance.choice((1023, 1024, 1025, 2047, 2048, 0xFFFF))
    start, stop = canvas.anatomy.item_count, min(count, 2047)
    length, flags, step = chance.choice((0, 1, MIB)), chance.choice((0, 1, 3, 4)), chance.choice((0, 1))
    entries = b"".join(
        struct.pack("<QQIIII", index * step + 1, 7, (64 * KIB + index) * bool(length), length, flags, 0)
        for index in range(start, stop)
    )
    canvas.write(base + 32 + 32 * start, entries)
    canvas.write(base + 10, struct.pack("<H", count))
    canvas.note(f"{count} metadata entries of length {length}, flags {flags}, step {step}")


def _name_log(canvas: Canvas, offset: int, length: int) -> None:
    for header in (0x10000, 0x20000):
        canvas.write(header + 48, LOG_GUID.bytes_le)
        canvas.write(header + 68, struct.pack("<IQ", length % (1 << 32), offset % (1 << 64)))


def flood_log(canvas: Canvas) -> None:
    """Put what looks like an entry into every sector of the log, each claiming to be long."""
    offset, length = canvas.anatomy.log
    chance = canvas.chance
    count = chance.choice((0, 1, 126, 127, 8000, 0xFFFFFFFF))
    claimed = chance.choice((4096, 8192, 64 * KIB, length))
    head = struct.pack(
        "<4sIIIQII16sQQ", b"loge", 0, claimed, 0, 1, count, 0, LOG_GUID.bytes_le, 0, chance.choice((0, MIB))
    )
    one = struct.pack("<4s4sQQQ", b"zero", b"", 4096, 0x30000, 1) * 126
    for position in range(0, min(length, MIB), 4096 * chance.choice((1, 2, 7))):
        canvas.write(offset + position, head + one)
    _name_log(canvas, offset, length)
    canvas.note(f"log full of entries of length {claimed} with {count} descriptors")


def lengthen_log(canvas: Canvas) -> None:
    """Name a long and empty log behind the file's end."""
    offset = max(canvas.store.size() // MIB * MIB, 16 * MIB)
    length = canvas.chance.choice((16 * MIB, GIB, GIB + MIB, 0xFFF00000))
    if canvas.chance.random() < 0.8:
        canvas.store.truncate(offset + length)
    _name_log(canvas, offset, length)
    canvas.note(f"log at {offset:#x}, length {length:#x}")
